"""What a run's requests depend on, stored before the event that names it (rule 13)."""

from typing import NamedTuple

from pydantic import ValidationError

from commands.desk import Desk
from domain.commands import PinnedContext
from domain.context import build_context, fallback_contexts
from domain.definition import Definition, Expert
from domain.errors import IntegrityViolated, Rejected
from domain.events import PinnedModel
from domain.policy import PolicyLayer
from domain.prompt import ModelContext
from domain.record import canonical, digest_of


class Stored(NamedTuple):
    """A blob that is in BLOBS."""

    digest: str
    size: int


async def read_definition(desk: Desk, tenant: str, digest: str) -> Definition:
    """The definition of that digest.

    Raises:
        Rejected: it is not stored, or is none.
        Unavailable: not now.
    """
    try:
        data = await desk.backbone.blobs.get(tenant, digest)
    except IntegrityViolated as error:
        msg = f"the definition {digest!r} is not stored: {error}"
        raise Rejected("no_definition", msg) from error
    try:
        return Definition.model_validate_json(data)
    except ValidationError as error:
        msg = f"the blob {digest!r} is no definition: {error}"
        raise Rejected("no_definition", msg) from error


async def pin(
    desk: Desk, tenant: str, definition: Definition, key: str, *, child: bool
) -> PinnedContext:
    """Store what stays the same in all requests of a run.

    Raises:
        Rejected: the expert is unknown, or cannot be started.
        Unavailable: not now.
    """
    context, tools = build_context(definition, key, extra_tools=desk.local_tools, child=child)
    expert = definition.expert(key)
    stored = await _store(desk, tenant, context)
    fallbacks: list[PinnedModel] = []
    for fallback in fallback_contexts(context, expert):
        digest, size = await _store(desk, tenant, fallback)
        fallbacks.append(PinnedModel(context=digest, context_bytes=size, model=fallback.model))
    return PinnedContext(
        renderer=context.renderer,
        digest=stored.digest,
        size=stored.size,
        model=context.model,
        tools=tools,
        limits=definition.limits,
        fallbacks=tuple(fallbacks),
        output_schema=expert.output_schema,
        layers=_layers(desk, definition, expert),
    )


async def _store(desk: Desk, tenant: str, context: ModelContext) -> Stored:
    data = canonical(context)
    await desk.backbone.blobs.put(tenant, data)
    return Stored(digest_of(data), len(data))


def _layers(desk: Desk, definition: Definition, expert: Expert) -> tuple[PolicyLayer, ...]:
    """The rules of a run, by layer; none for a layer without rules."""
    layers = (
        *operator_layer(desk),
        PolicyLayer(name="definition", rules=definition.policy),
        PolicyLayer(name="expert", rules=expert.policy),
    )
    return tuple(layer for layer in layers if layer.rules)


def operator_layer(desk: Desk) -> tuple[PolicyLayer, ...]:
    """What the operator of this process says about every run that begins; none without rules."""
    rules = desk.operator_rules
    return (PolicyLayer(name="operator", rules=rules),) if rules else ()
