"""Runs, their steps, calls, activities and checkpoints as they are answered. Times are ms UTC."""

from typing import Any, Literal

from domain.state import Status
from gateway.models.common import Answer, Failed, Page, Tokens


class ForkedFrom(Answer):
    """Where a fork has its past from."""

    job: str
    run: str
    version: int
    step: int


class Run(Answer):
    """One expert at work."""

    run: str
    job: str
    parent_run: str | None = None
    forked_from: ForkedFrom | None = None
    expert: str
    status: Status
    query: str
    """The beginning of the first input."""
    step: int
    steps_max: int
    provider: str
    model: str
    started_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None = None
    cancel_requested_at_ms: int | None = None
    paused_at_ms: int | None = None
    waiting: list[str]
    """Ids of what waits for a person."""
    usage: Tokens
    tokens_charged: int
    micro_usd_charged: int
    """Both with what is below it."""
    result: str | None = None
    result_digest: str | None = None
    """The blob with the whole of a large result."""
    stopped_by: str | None = None
    failure: Failed | None = None
    definition: str
    version: int
    integrity: str | None = None
    """What is wrong with the stored history; None: it is sound."""
    status_url: str
    events_url: str


class Runs(Page):
    """Runs, newest first."""

    runs: list[Run]


class Job(Answer):
    """A root run and all below it."""

    job: str
    expert: str
    definition: str
    status: Status
    query: str
    started_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None = None
    paused: bool
    runs: int
    running: int
    waiting: int
    """Runs of it that wait for a person, a count."""
    steps: int
    tool_calls: int
    usage: Tokens
    tokens_charged: int
    micro_usd_charged: int
    forked_from: ForkedFrom | None = None
    result: str | None = None
    events_url: str


class Jobs(Page):
    """Jobs, newest first."""

    jobs: list[Job]


class Member(Answer):
    """A run in the tree of its job."""

    run: str
    parent_run: str | None
    depth: int
    expert: str
    status: Status
    paused: bool
    cancelling: bool
    waiting: list[dict[str, Any]]
    step: int
    steps_left: int | None
    tokens_charged: int
    tokens_left: int | None
    micro_usd_charged: int
    micro_usd_left: int | None
    tool_calls: int
    tool_calls_left: int | None
    children: list[str]


class Tree(Answer):
    """The runs of a job, each before those it asked for."""

    job: str
    runs: list[Member]


class Step(Answer):
    """A generation and the calls it asked for."""

    run: str
    step: int
    attempts: int
    provider: str
    model: str
    started_at_ms: int | None = None
    generated_at_ms: int | None = None
    ended_at_ms: int | None = None
    stop_reason: str | None = None
    calls: int
    failures: int
    usage: Tokens
    tokens_charged: int
    micro_usd_charged: int


class Steps(Page):
    """The steps of a run, in order."""

    steps: list[Step]


class Call(Answer):
    """A tool call. `arguments` and `result` are their beginnings."""

    run: str
    call: str
    step: int
    tool: str
    skill: str
    status: str
    """`requested`, `waiting`, `claimed`, or its outcome."""
    lane: str
    safety: str
    requested_at_ms: int | None = None
    claimed_at_ms: int | None = None
    ended_at_ms: int | None = None
    duration_ms: int | None = None
    """As whoever ran it measured."""
    arguments: str
    result: str | None = None
    is_error: bool
    child_run: str | None = None
    attempts: int


class Calls(Page):
    """Tool calls, in the order they were asked for."""

    calls: list[Call]


class Activity(Answer):
    """Something a run did, as people say it."""

    id: str
    run: str
    job: str
    expert: str
    delegated_by: str | None = None
    """The run that asked for it."""
    type: str
    status: str | None = None
    call: str | None = None
    summary: str
    reasoning: str
    at_ms: int
    ended_at_ms: int | None = None


class Activities(Page):
    """Activities, oldest first."""

    activities: list[Activity]


class Checkpoint(Answer):
    """The end of a step: where a run can be looked at, or gone on from."""

    run: str
    step: int
    version: int
    at_ms: int
    tokens: int


class Checkpoints(Answer):
    """The checkpoints of a run, those a fork has from its source first."""

    run: str
    checkpoints: list[Checkpoint]


class Waiting(Answer):
    """What waits for a person. More fields say what it is about, by its kind."""

    model_config = Answer.model_config | {"extra": "allow"}

    job: str
    run: str
    expert: str
    id: str
    kind: Literal["question", "ask", "approval", "budget"]
    since_ms: int
    due_ms: int | None = None
    digest: str
    """A decision has to carry it (C14)."""
    reason: str


class Waits(Answer):
    """What waits in a run and below it, oldest first, and which of these are paused."""

    run: str
    waiting: list[Waiting]
    paused: list[str]
