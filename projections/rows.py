"""What the view of runs shows, as records. Not how it comes about, and no storage."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domain.envelope import FIRST_HASH
from domain.ids import RunRef
from domain.limits import Usage
from domain.state import Status


@dataclass(frozen=True)
class RunRow:
    """A run as people list it. `version` and `head` are those of its last envelope."""

    tenant: str
    job: str
    run: str
    first_seq: int  # stream sequence of the first envelope: the order runs are listed in
    version: int = 0
    head: str = FIRST_HASH
    status: Status = "new"
    expert: str = ""
    definition: str = ""
    parent_run: str | None = None
    parent_call: str | None = None
    depth: int = 0
    provider: str = ""
    model: str = ""
    query: str = ""  # the beginning of the first input
    step: int = 0
    steps_max: int = 0
    started_at_ms: int = 0
    updated_at_ms: int = 0
    ended_at_ms: int | None = None
    cancel_requested_at_ms: int | None = None
    paused_at_ms: int | None = None
    waiting: str = ""  # ids of what waits for a person, with spaces between them
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    tokens_charged: int = 0  # what counts against the budget, children included
    money_charged: int = 0  # micro-USD, children included
    result: str | None = None
    result_digest: str | None = None  # the blob that holds a large result
    stopped_by: str | None = None
    failure_kind: str | None = None
    failure_message: str | None = None
    unknown_events: int = 0  # written by a newer release, carried opaque (C17)
    source_job: str | None = None  # of a fork: the job of the run whose past it has
    source_run: str | None = None
    source_version: int | None = None  # up to there
    source_step: int | None = None
    integrity: str | None = None  # what is wrong with the stored history; None: sound

    @property
    def ref(self) -> RunRef:
        """The full name."""
        return RunRef(self.tenant, self.job, self.run)

    @property
    def usage(self) -> Usage:
        """What the providers reported so far."""
        return Usage(
            input=self.input_tokens,
            output=self.output_tokens,
            reasoning=self.reasoning_tokens,
            cached=self.cached_tokens,
            cache_written=self.cache_written_tokens,
        )


if TYPE_CHECKING:
    changed = replace
else:

    def changed(row: RunRow, **changes: object) -> RunRow:
        """`dataclasses.replace` for a row, ten times faster: it has forty fields."""
        new = object.__new__(RunRow)
        new.__dict__.update(row.__dict__, **changes)
        return new


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """The end of a step: where a run can be looked at again."""

    tenant: str
    job: str
    run: str
    step: int
    version: int
    at_ms: int
    tokens: int  # input and output of the run up to here
