"""What a fork may be pinned to instead: what its source is, with other models. Not a pin."""

from domain.definition import Definition
from domain.errors import IntegrityViolated, Rejected
from domain.state import RunState
from eventlog.port import Blobs


async def pinned_definition(blobs: Blobs, state: RunState) -> Definition:
    """The definition that a run was pinned to.

    Raises:
        Rejected: it is not there any more.
        Unavailable: the store is away.
    """
    try:
        return Definition.model_validate_json(await blobs.get(state.ref.tenant, state.definition))
    except (IntegrityViolated, ValueError) as error:
        message = f"the definition {state.definition[:12]} of the run cannot be read: {error}"
        raise Rejected("no_definition", message) from error


def with_models(pinned: Definition, loaded: Definition, expert: str) -> Definition:
    """A definition with the models of another one, and all else as it is."""
    experts = {
        key: one.model_copy(
            update={
                "model": loaded.experts.get(key, loaded.expert(expert)).model,
                "fallbacks": loaded.experts.get(key, loaded.expert(expert)).fallbacks,
            }
        )
        for key, one in pinned.experts.items()
    }
    return pinned.model_copy(update={"experts": experts})
