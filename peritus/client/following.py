"""Follows a stream over any number of connections: each event once, in order (C9). No input here.

Whoever drives it connects as `request` says, hands over what comes with `feed`, and tells with
`lost` when a connection is over; `lost` says how long to wait before the next one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from domain.errors import PeritusError, Unavailable
from domain.events import RunContinued
from peritus.client.backoff import RECONNECTS_MAX, Backoff
from peritus.client.errors import Faulty, error_of
from peritus.client.exchange import Call, Reply, as_bytes
from peritus.client.frames import Beat, End, Frame, Heard, Hello, Leave, Reset, Trouble, frame_of
from peritus.client.sse import Parser, StreamTooLarge

LAST_ID_HEADER = "Last-Event-ID"
EVENTS_TYPE = "text/event-stream"

SILENCE_S = 25.0
"""After how long without a byte a connection is taken for dead: the gateway says something every
10 seconds."""

PASSING = frozenset({"unavailable", "behind", "closing"})
"""Problems told in a stream that another connection may not have."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What is asked for. `root`: the run whose end ends the stream; None: nothing does."""

    path: str
    query: Mapping[str, str | int | list[str]]
    root: str | None
    follow: bool = False


def place_of(cursor: str) -> tuple[str, int, int] | None:
    """A cursor in its parts; None when it is none, so that it cannot be compared."""
    incarnation, _, rest = cursor.partition("-")
    seq, _, event = rest.partition("-")
    return (incarnation, int(seq), int(event)) if seq.isdecimal() and event.isdecimal() else None


@dataclass(slots=True)
class Follower:
    """One stream. `cursor` is where the next connection goes on."""

    stream: Stream
    random: Callable[[], float]
    cursor: str | None = None
    reconnects_max: int = RECONNECTS_MAX
    done: bool = False
    _told: str | None = None  # the newest event or end the reader has
    _ended: bool = False
    _leave: Leave | None = None
    _parser: Parser = field(default_factory=Parser)
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._told = self.cursor
        self._backoff = Backoff(self.random, self.reconnects_max)

    def request(self) -> Call[bytes]:
        """How to connect now; `headers` go on top of those of the call."""
        return Call("GET", self.stream.path, as_bytes, query=self.stream.query)

    @property
    def headers(self) -> dict[str, str]:
        """Those of the next connection."""
        asked = {"Accept": EVENTS_TYPE, "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        return asked if self.cursor is None else asked | {LAST_ID_HEADER: self.cursor}

    def opened(self) -> None:
        """A connection was made: what the one before broke off in the middle of is forgotten."""
        self._parser, self._leave = Parser(), None

    def feed(self, data: bytes) -> list[Frame]:
        """What these bytes tell the reader.

        Raises:
            Faulty: what sends them is no gateway.
        """
        try:
            messages = self._parser.feed(data)
        except StreamTooLarge:
            raise Faulty(200, "unreadable", "a message of the stream has no end") from None
        found: list[Frame] = []
        for message in messages:
            frame = frame_of(message)
            if isinstance(frame, Leave):
                self._leave = frame
            elif self._is_new(frame):
                found.append(frame)
            if message.id is not None and not (isinstance(frame, Hello) and self.cursor):
                self.cursor = message.id  # a greeting alone moves nobody: a reset may follow it
        return found

    def lost(self, why: PeritusError | None = None) -> float:
        """The connection is over; seconds to wait before the next one. `done`: there is none.

        Raises:
            PeritusError: the stream cannot go on.
        """
        error = why or self._problem()
        if error is None and self._ended and not self.stream.follow:
            self.done = True
            return 0.0
        if error is not None and not isinstance(error, Unavailable):
            raise error
        if self._backoff.spent:
            raise error or Unavailable("the stream ends again and again with nothing new")
        return self._backoff.after_failure()

    def refused(self, reply: Reply) -> float:
        """There was an answer and it is no stream; as `lost`.

        Raises:
            PeritusError: it will not become one.
        """
        if reply.status == 200:  # noqa: PLR2004
            raise Faulty(reply.status, "unreadable", "what answered is no stream of events")
        return max(self.lost(error_of(reply.status, reply.content)), reply.asked_s)

    def _problem(self) -> PeritusError | None:
        leave = self._leave
        if leave is None or not leave.problem:
            return None
        if leave.reason in PASSING:
            return Unavailable(leave.detail)
        return Faulty(200, leave.reason, leave.detail)

    def _is_new(self, frame: Frame) -> bool:
        """Whether the reader does not have it yet; notes what it has then."""
        match frame:
            case Hello():
                return True
            case Reset():
                self._told, self._ended = None, False
                return True
            case Heard(cursor=cursor):
                if not self._passes(cursor):
                    return False
                self._ended = self._ended and not self._goes_on(frame)
            case End(cursor=cursor, run=run):
                again = self._told == f"{cursor} {run}"  # told anew to whoever reconnects
                self._ended = self._ended or run == self.stream.root
                self._told = f"{cursor} {run}"
                if again:
                    return False
            case Beat(cursor=cursor) | Trouble(cursor=cursor):
                self._passes(cursor)
            case _:
                pass
        self._backoff.worked()
        return True

    def _passes(self, cursor: str) -> bool:
        """Whether a place comes after what the reader has; then it is what the reader has."""
        before = place_of((self._told or "").partition(" ")[0])
        now = place_of(cursor)
        if before is not None and now is not None and before[0] == now[0] and now <= before:
            return False
        self._told = cursor
        return True

    def _goes_on(self, heard: Heard) -> bool:
        return heard.run == self.stream.root and isinstance(heard.event, RunContinued)
