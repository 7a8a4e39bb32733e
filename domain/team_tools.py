"""The tools of a topology skill: as a model sees them. Not what they change: see `domain.team`."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field

from domain.base_tools.arguments import Arguments, parameters_of
from domain.tools import Lane, Safety, ToolEntry, ToolSpec


class CreateExpert(Arguments):
    """Arguments of `createExpert`."""

    key: str = Field(
        description="Its key: a name in lower case, or `@you/name` for a delegate of yours alone."
    )
    instruction: str = Field(min_length=1, max_length=20_480, description="What it is to do.")
    description: str | None = Field(
        default=None, max_length=2_048, description="What it is for: whoever calls it reads this."
    )
    delegates: list[str] | None = Field(default=None, description="Keys of experts it may call.")
    omit: list[str] | None = Field(
        default=None, description="Base tools it is not to have; it has all others that you have."
    )
    output: dict[str, Any] | None = Field(
        default=None, description="The JSON schema of its result, when that is to be data."
    )


class ExpertKey(Arguments):
    """Arguments of `addDelegate` and `removeDelegate`."""

    expert_key: str = Field(alias="expertKey", description="The key of the expert.")


class AddDelegateFromConfig(Arguments):
    """Arguments of `addDelegateFromConfig`."""

    path: str = Field(description="A perstack.toml of the workspace.")
    expert_key: str = Field(
        alias="expertKey", description="The expert of it that is to become your delegate."
    )


class AddSkill(Arguments):
    """Arguments of `addSkill`: the keys of a skill's table in a perstack.toml."""

    name: str = Field(min_length=1, max_length=255, description="What the skill is called.")
    type: Literal["interactiveSkill", "mcpStdioSkill", "mcpSseSkill"]
    description: str | None = None
    rule: str | None = None
    pick: list[str] | None = None
    omit: list[str] | None = None
    command: str | None = Field(default=None, description="Of an mcpStdioSkill.")
    args: list[str] | None = Field(default=None, description="Of an mcpStdioSkill.")
    endpoint: str | None = Field(default=None, description="Of an mcpSseSkill.")
    tools: dict[str, dict[str, Any]] | None = Field(
        default=None,
        description="Of an interactiveSkill: by name, `description` and `inputJsonSchema`.",
    )


class RemoveSkill(Arguments):
    """Arguments of `removeSkill`."""

    name: str = Field(description="What the skill is called.")


class TeamTool(NamedTuple):
    """A tool as the model sees it, as deciding sees it, and its arguments."""

    spec: ToolSpec
    entry: ToolEntry
    arguments: type[Arguments]


_TOOLS: tuple[tuple[str, type[Arguments], Lane, str], ...] = (
    (
        "addDelegate",
        ExpertKey,
        Lane.TEAM,
        "Make an expert your delegate. It is a tool of yours from the next step on; the result "
        "says what that is called.",
    ),
    (
        "addDelegateFromConfig",
        AddDelegateFromConfig,
        Lane.SANDBOX,
        "Read the experts of a perstack.toml in the workspace, and make one of them your delegate. "
        "They get your model, and no right that you have not.",
    ),
    (
        "addSkill",
        AddSkill,
        Lane.TEAM,
        "Give yourself a skill. Its tools are there from the next step on.",
    ),
    (
        "createExpert",
        CreateExpert,
        Lane.TEAM,
        "Define an expert for this job, with your model and the base skill. It is not your "
        "delegate before you add it with addDelegate.",
    ),
    (
        "removeDelegate",
        ExpertKey,
        Lane.TEAM,
        "Take an expert from your delegates. What it is at goes on.",
    ),
    ("removeSkill", RemoveSkill, Lane.TEAM, "Take a skill from yourself."),
)

ARGUMENTS: dict[str, type[Arguments]] = {name: arguments for name, arguments, _, _ in _TOOLS}
"""What each tool of a topology skill is called with."""


def _safety(lane: Lane) -> Safety:
    """The sandbox's part of a call only reads; the loop's part is decided once."""
    return Safety.READ_ONLY if lane is Lane.SANDBOX else Safety.IDEMPOTENT


def team_tools(skill: str, *, pick: Sequence[str] = (), omit: Sequence[str] = ()) -> list[TeamTool]:
    """The tools of a topology skill, with `omit` applied first."""
    return [
        TeamTool(
            ToolSpec(name=name, description=description, parameters=parameters_of(arguments)),
            ToolEntry(name=name, skill=skill, lane=lane, safety=_safety(lane)),
            arguments,
        )
        for name, arguments, lane, description in _TOOLS
        if name not in omit and (not pick or name in pick)
    ]
