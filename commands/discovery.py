"""What a skill's MCP server offers, asked of a worker that can speak with it. Not the protocol."""

from typing import TypeVar

from pydantic import ValidationError

from domain.definition import Definition, Expert, McpHttpSkill, McpStdioSkill
from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from domain.mcp import Catalogue
from domain.record import Record, canonical
from eventlog.port import Backbone, Topic

McpSkill = McpStdioSkill | McpHttpSkill

DISCOVERY_S = 180.0
"""How long a worker may take, in seconds: a package may have to be fetched first."""


class DiscoverSkill(Record):
    """A question to a tool or sandbox service: what does this skill offer?"""

    type: str = "discover_skill.v1"
    definition: str  # digest
    expert: str
    skill: str


class Discovered(Record):
    """The answer: the digest of a catalogue, or why there is none."""

    catalogue: str = ""
    problem: str = ""


def no_job(tenant: str) -> RunRef:
    """What stands for the run of whoever wants to know without one."""
    return RunRef(tenant, "discovery", "discovery")


async def discover(
    backbone: Backbone, ref: RunRef, definition: Definition, expert: str, skill: str
) -> Catalogue:
    """Ask for what an MCP skill of an expert offers; its server is started for that, and ended.

    It may look at the files of the run's job, where there are any yet: some servers need some.

    Raises:
        Rejected: it offers nothing that can be used; the message says why.
        Unavailable: no worker answered.
    """
    asked = definition.expert(expert).skills[skill]
    process = isinstance(asked, McpStdioSkill)
    topic: Topic = "ask-sandbox" if process else "ask-tool"
    digest = await backbone.blobs.put(ref.tenant, definition.to_bytes())
    question = DiscoverSkill(definition=digest, expert=expert, skill=skill)
    data = await backbone.requests.ask(ref, canonical(question), timeout_s=DISCOVERY_S, topic=topic)
    if data is None:
        service = "sandbox" if process else "tool"
        msg = f"no {service} service said what skill {skill!r} of expert {expert!r} offers"
        raise Unavailable(msg)
    answer = _read(Discovered, data)
    if answer.problem:
        raise Rejected("skill_failed", f"skill {skill!r} of expert {expert!r}: {answer.problem}")
    return _read(Catalogue, await backbone.blobs.get(ref.tenant, answer.catalogue))


def unresolved(expert: Expert) -> tuple[str, ...]:
    """The skills of an expert whose servers nobody has asked yet."""
    return tuple(
        name
        for name, skill in expert.skills.items()
        if isinstance(skill, McpStdioSkill | McpHttpSkill) and skill.catalogue is None
    )


def with_catalogue(
    definition: Definition, expert: str, skill: str, catalogue: Catalogue
) -> Definition:
    """The definition, knowing what a skill offers."""
    own = definition.expert(expert)
    known = own.skills[skill].model_copy(update={"catalogue": catalogue})
    changed = own.model_copy(update={"skills": {**own.skills, skill: known}})
    return definition.model_copy(update={"experts": {**definition.experts, expert: changed}})


R = TypeVar("R", bound=Record)


def _read(kind: type[R], data: bytes) -> R:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        msg = f"a worker of another release answered: {error}"
        raise Unavailable(msg) from error
