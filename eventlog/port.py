"""The ports to all that is kept or carried between processes. Not JetStream itself.

Both forms, `eventlog.jetstream` and `eventlog.memory`, pass the one suite in `tests/contract`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from domain.ids import RunRef
from eventlog.newest import Limits, Registry

Lane = str
"""A lane of WORK: `step` for generations, `tool` for skills, `sandbox` for base tools of jobs that
no worker holds yet; and one for each sandbox worker, see `lane_of`."""


OWN_LANE = "at-"


def lane_of(epoch: str) -> Lane:
    """The lane of work that only one worker can do: it holds the job's workspace."""
    return f"{OWN_LANE}{epoch}"


class Stored(NamedTuple):
    """An envelope as it lies in the log: its stream sequence, its run and its exact bytes."""

    seq: int
    ref: RunRef
    data: bytes


class Page(NamedTuple):
    """Stored envelopes in order, and whether the log has more that match."""

    envelopes: list[Stored]
    more: bool


PAGE_MAX = 1000
"""How many envelopes a page has at most; it may have fewer, though there are more."""


class Said(NamedTuple):
    """What was said live, and of which run."""

    ref: RunRef
    data: bytes


class Cursor(NamedTuple):
    """A reader's place: what it gets next comes after this event of this log incarnation.

    Written as `<incarnation>-<seq>-<event>`; `event` counts inside the envelope at `seq`, from 0.
    """

    incarnation: str
    seq: int
    event: int = 0

    def __str__(self) -> str:
        """The form readers hold: also the SSE id."""
        return f"{self.incarnation}-{self.seq}-{self.event}"

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        """The cursor of that text; None when it is not one."""
        incarnation, _, rest = text.partition("-")
        seq, _, event = rest.partition("-")
        if not (incarnation and seq.isdecimal() and event.isdecimal()):
            return None
        return cls(incarnation, int(seq), int(event))


class EventLog(Protocol):
    """EVENTS: the only record. One append is one decision."""

    @property
    def incarnation(self) -> str:
        """Names this log's life: another one after the stream was made anew. Hex, no dashes."""
        ...

    async def append(self, ref: RunRef, data: bytes, *, expected_seq: int) -> int:
        """Store one envelope after the run's message at `expected_seq` (0: none yet); its sequence.

        Raises:
            Conflict: the run's last message is another one.
            AppendUnknown: no answer came; it may be stored.
            TooLarge: the message is above the server's payload limit.
            Unavailable: the store refused or is away, and nothing was stored.
        """
        ...

    async def load(self, ref: RunRef, *, after_seq: int = 0) -> list[Stored]:
        """The run's envelopes after a sequence, in order, as the leader has them.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def read(
        self,
        *,
        after_seq: int,
        tenant: str = "*",
        job: str = "*",
        run: str = "*",
        limit: int = PAGE_MAX,
    ) -> Page:
        """The next stored envelopes after a sequence that match: one page of what there is now.

        A page without more ends where the leader's log ended, at the earliest when it was asked.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def find(self, tenant: str, run: str) -> RunRef | None:
        """The full name of a run whose job is not known; None when no such run exists."""
        ...

    async def bounds(self) -> tuple[int, int]:
        """First and last sequence of the whole log; (1, 0) when it is empty."""
        ...

    def follow(
        self, *, after_seq: int, tenant: str = "*", job: str = "*", run: str = "*"
    ) -> AbstractAsyncContextManager[AsyncIterator[Stored]]:
        """Every stored envelope after a sequence that matches, in order: catch-up, then live.

        Never ends by itself; makes no consumer at the server; survives reconnects.

        Raises (from the iterator):
            Unavailable: the store stayed away; open it again from the last sequence seen.
        """
        ...


class Blobs(Protocol):
    """BLOBS: content by digest, any size."""

    async def put(self, tenant: str, data: bytes) -> str:
        """Store content and return its digest (SHA-256 hex); durable when it returns.

        What is there already counts as new from then on: see `Retention.remove_blob`.

        Raises:
            Unavailable: it is not stored.
        """
        ...

    async def get(self, tenant: str, digest: str) -> bytes:
        """The content of that digest, checked against it.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: there is no such blob, or its bytes are not what was stored.
        """
        ...


class Snapshots(Protocol):
    """SNAPSHOTS: one folded state a run, a cache that may be gone at any time."""

    async def put(self, ref: RunRef, data: bytes) -> None:
        """Keep this one, drop the older; losing it is harmless."""
        ...

    async def get(self, ref: RunRef) -> bytes | None:
        """The newest one, if any."""
        ...


class OpenRuns(Protocol):
    """OPEN: the index of runs that have not come to rest; rebuilt from EVENTS when in doubt."""

    async def add(self, ref: RunRef) -> None:
        """Durable before the run's first append."""
        ...

    async def remove(self, ref: RunRef) -> None:
        """The run is at rest and its end is where it must be."""
        ...

    async def list(self) -> list[RunRef]:
        """All of them."""
        ...


class Delivery(Protocol):
    """One message of a work queue, held until it is answered."""

    @property
    def ref(self) -> RunRef:
        """The run it is about."""
        ...

    @property
    def data(self) -> bytes:
        """Its bytes."""
        ...

    @property
    def attempt(self) -> int:
        """How often it has been delivered, from 1. Decides nothing but when to give up."""
        ...

    async def ack(self) -> None:
        """Done: the outcome is stored."""
        ...

    async def retry(self, delay_s: float) -> None:
        """Not now: deliver it again after a while."""
        ...

    async def progress(self) -> None:
        """Still at it: do not deliver it again yet."""
        ...


class WorkQueue(Protocol):
    """WORK: effects by lane. A hint, not a record: any of it may vanish or come twice."""

    async def put(self, lane: Lane, ref: RunRef, data: bytes) -> None:
        """Offer work.

        Raises:
            Unavailable: it is not stored; the reconciler will derive it again.
        """
        ...

    def consume(
        self, lane: Lane, *, in_flight_max: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Take work; never more unanswered than `in_flight_max`. Outlives a server restart."""
        ...


class CommandQueue(Protocol):
    """COMMANDS: what the outside asks, stored before it is acknowledged; and timers."""

    async def put(self, ref: RunRef, data: bytes, *, message_id: str | None = None) -> None:
        """Store a command; returns when it is durable.

        The same `message_id` within two minutes is stored once.

        Raises:
            Unavailable: it may not be stored; send it again with the same id.
        """
        ...

    async def put_at(self, ref: RunRef, timer: str, due_ms: int, data: bytes) -> None:
        """Store a command that is delivered at `due_ms`; the same timer again replaces it."""
        ...

    def consume(
        self, *, in_flight_max: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Take commands; never more unanswered than `in_flight_max`."""
        ...


class DeadLetter(NamedTuple):
    """A command given up on."""

    seq: int
    ref: RunRef
    reason: str
    data: bytes


class DeadLetters(Protocol):
    """DEAD: commands nobody could handle, kept until a person decides."""

    async def put(self, ref: RunRef, data: bytes, reason: str) -> None:
        """Keep it; returns when it is durable."""
        ...

    async def list(self, limit: int) -> list[DeadLetter]:
        """The newest ones first, at most `limit`."""
        ...

    async def remove(self, seq: int) -> None:
        """It was sent again, or is not wanted."""
        ...


class Leases(Protocol):
    """LEASES: which epochs live. A sign of life, not a lock: the log is the fence."""

    async def renew(self, epoch: str, data: bytes) -> None:
        """Say that this epoch lives, for `lease_s` seconds from now."""
        ...

    async def drop(self, epoch: str) -> None:
        """This epoch ends by its own will."""
        ...

    async def live(self) -> dict[str, bytes]:
        """The epochs with a lease now, and what they said of themselves."""
        ...

    async def settled(self) -> bool:
        """Whether the bucket is older than a lease, so that a missing lease means a dead epoch."""
        ...


class LiveChannel(Protocol):
    """LIVE: deltas and partial output. Never the record; may be lost."""

    async def publish(self, ref: RunRef, data: bytes) -> None:
        """Tell whoever listens now; never waits for anyone."""
        ...

    def subscribe(self, ref: RunRef) -> AbstractAsyncContextManager[AsyncIterator[Said]]:
        """What is said of a run from now on. `ref` parts may be `*`."""
        ...

    async def recent(self, ref: RunRef) -> list[Said]:
        """What was said of a run in the last minute, in order, as far as it is still known.

        Raises:
            Unavailable: the store is away.
        """
        ...


Answer = Callable[[RunRef, bytes], Awaitable[bytes]]

Topic = Literal["ask", "ask-tool", "ask-sandbox"]
"""Whom a question is for: any loop, tool or sandbox service."""


class Requests(Protocol):
    """Request and reply between workers: fast, and allowed to fail; COMMANDS is the durable way."""

    async def ask(
        self, ref: RunRef, data: bytes, *, timeout_s: float, topic: Topic = "ask"
    ) -> bytes | None:
        """One answer, or None when nobody answered in time."""
        ...

    def serve(self, answer: Answer, *, topic: Topic = "ask") -> AbstractAsyncContextManager[None]:
        """Answer questions while the context is open; each question goes to one server."""
        ...


class StoredBlob(NamedTuple):
    """A blob as it lies in BLOBS; `revisions` name this very storing of it, and no later one."""

    tenant: str
    digest: str
    bytes: int
    stored_ms: int  # when it was put last, within `BLOB_FRESH_S`
    revisions: tuple[int, ...]


class Retention(Protocol):
    """What removes for good, each call as often as one likes: a role of its own (rule 15)."""

    async def runs(self, tenant: str, job: str) -> dict[RunRef, int]:
        """The runs of a job that have envelopes, and how many, as the leader has them.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def purge(self, pattern: RunRef, *, before_seq: int) -> None:
        """Remove the envelopes of a run, or of those that match, up to a sequence, not that one.

        Raises:
            Unavailable: some may still be there, also because this client may not remove them.
        """
        ...

    async def forget(self, tenant: str, job: str) -> None:
        """Remove what is kept of a job beside EVENTS: commands, timers, work, letters, caches.

        Raises:
            Unavailable: some may still be there, also because this client may not remove them.
        """
        ...

    def waiting(self) -> AsyncIterator[tuple[str, bytes]]:
        """Every command, timer and dead letter that is stored now, with its tenant.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def blobs(self) -> list[tuple[str, str]]:
        """Tenant and digest of every blob, also of those that were not stored whole.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def blob(self, tenant: str, digest: str) -> StoredBlob | None:
        """One of them as it is now, if it is still there.

        Raises:
            Unavailable: the store is away.
        """
        ...

    async def remove_blob(self, blob: StoredBlob) -> None:
        """Remove this storing of a blob; one that was put again since stays.

        Raises:
            Unavailable: it may still be there, also because this client may not remove it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backbone:
    """All ports of one deployment, in one form."""

    log: EventLog
    blobs: Blobs
    snapshots: Snapshots
    open_runs: OpenRuns
    work: WorkQueue
    commands: CommandQueue
    dead: DeadLetters
    leases: Leases
    limits: Limits
    live: LiveChannel
    requests: Requests
    registry: Registry
    retention: Retention


BLOB_FRESH_S = 6 * 3600.0
"""How old a blob may be, in seconds, before putting it again makes it new: until then, who put it
knows that it is there. Blobs may be collected only when they are a good deal older."""

LEASE_S = 30.0
"""How long a sign of life counts, in seconds: longer than a leader election (4 to 9 s, raft.go)."""

RENEW_S = 1.0
"""How often an epoch renews it, in seconds."""

COMMAND_ACK_WAIT_S = 30.0
WORK_ACK_WAIT_S = 30.0
"""How long a delivery may stay unanswered before it comes again, in seconds."""

PAYLOAD_BYTES_MAX = 900_000
"""The largest message, in bytes; large texts are offloaded and blobs are chunked."""


def matches(pattern: Sequence[str], ref: RunRef) -> bool:
    """Whether a run's name matches a pattern of three tokens, `*` being any."""
    return all(p in ("*", token) for p, token in zip(pattern, ref, strict=True))
