"""A run at a step, and what two steps differ in, as they are answered. Not the list of steps."""

from typing import Any, Literal

from domain.state import Status
from gateway.models.common import Answer, Tokens
from gateway.models.runs import Checkpoint


class CheckpointFacts(Checkpoint):
    """The end of a step, with what happened in it."""

    job: str
    said: str
    """What the model said."""
    tools: list[str]
    """What it called."""
    snapshot: bool
    """Whether the files were stored."""


class CallState(Answer):
    """A call of the step."""

    call: str
    tool: str
    line: str
    """The call as a person would note it down."""
    outcome: str | None = None
    held_by: str | None = None
    child: str | None = None
    content: str


class State(Answer):
    """What a run was at a step."""

    job: str
    run: str
    expert: str
    status: Status
    cancelling: bool
    paused: bool
    version: int
    step: int
    steps_left: int | None = None
    tokens_left: int | None = None
    micro_usd_charged: int
    micro_usd_left: int | None = None
    model: dict[str, Any] | None = None
    usage: Tokens
    parent: dict[str, Any] | None = None
    calls: list[CallState]
    todos: list[dict[str, Any]]
    unknown_events: list[str]
    """Types of events that only a newer release knows."""
    result: str | None = None
    failure: str | None = None
    stopped_by: str | None = None


class CheckpointShown(Answer):
    """A run as it was at the end of a step."""

    checkpoint: CheckpointFacts
    state: State
    messages: list[dict[str, Any]]
    """What was said up to there: `role`, and `parts` by their `kind`."""


class StateChange(Answer):
    """Something of the state that is not the same."""

    name: str
    before: Any = None
    after: Any = None


class FileChanged(Answer):
    """A file that is not the same."""

    path: str
    what: Literal["added", "removed", "changed", "mode", "unknown"]
    diff: str | None = None
    """A unified diff, of the file that was asked for."""


class Diff(Answer):
    """What two checkpoints differ in."""

    run: str
    a: CheckpointFacts
    b: CheckpointFacts
    state: list[StateChange]
    messages: list[str]
    """A unified diff of what was said, a line a part of a message."""
    files: list[FileChanged] | None = None
    """None: they cannot be compared, and `files_problem` says why."""
    files_problem: str | None = None
