"""What may go wrong at the ports of the in-memory form, by name. Not a plan: who injects decides.

One `Fault` describes the whole round trip of one port call, so that every call of one point can
lose its request, its answer, or neither.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Protocol


class FaultPoint(StrEnum):
    """The named places where a fault can be injected or a process can die."""

    APPEND = "append"
    LOAD = "load"
    FIND = "find"
    BOUNDS = "bounds"
    FOLLOW_DELIVER = "follow_deliver"
    BLOB_PUT = "blob_put"
    BLOB_GET = "blob_get"
    SNAPSHOT_PUT = "snapshot_put"
    SNAPSHOT_GET = "snapshot_get"
    OPEN_ADD = "open_add"
    OPEN_REMOVE = "open_remove"
    OPEN_LIST = "open_list"
    WORK_PUT = "work_put"
    WORK_DELIVER = "work_deliver"
    WORK_ACK = "work_ack"
    COMMAND_PUT = "command_put"
    COMMAND_PUT_AT = "command_put_at"
    COMMAND_DELIVER = "command_deliver"
    COMMAND_ACK = "command_ack"
    TIMER_FIRE = "timer_fire"
    DEAD_PUT = "dead_put"
    DEAD_LIST = "dead_list"
    DEAD_REMOVE = "dead_remove"
    LEASE_RENEW = "lease_renew"
    LEASE_DROP = "lease_drop"
    LEASE_LIVE = "lease_live"
    LIMIT_NOTE = "limit_note"
    LIMIT_READ = "limit_read"
    LIMIT_DELIVER = "limit_deliver"
    REGISTRY_PUT = "registry_put"
    REGISTRY_READ = "registry_read"
    REGISTRY_REMOVE = "registry_remove"
    RETENTION_READ = "retention_read"
    RETENTION_REMOVE = "retention_remove"
    LIVE_PUBLISH = "live_publish"
    REQUEST = "request"
    REPLY = "reply"


class Kind(Enum):
    """What happens to one port call."""

    NONE = auto()
    """Nothing but the delays."""
    DROP = auto()
    """The request is lost: nothing is done, and no answer comes."""
    LOST_ACK = auto()
    """It is done, and the answer is lost."""
    REFUSE = auto()
    """Nobody is there to answer: nothing is done, and the caller hears so at once."""
    CONFLICT = auto()
    """An append or the like is refused as a conflict though nobody else wrote (code 10164)."""
    STALE = auto()
    """A read answers with what was there before the last write."""
    DUPLICATE = auto()
    """It is done, or delivered, twice."""
    VANISH = auto()
    """The caller hears that it is done, and it is not there."""
    CRASH = auto()
    """The caller's process dies before the request leaves it."""
    CRASH_AFTER = auto()
    """The caller's process dies after it is done, before the answer arrives."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one port call, and how long its parts take."""

    kind: Kind = Kind.NONE
    delay_s: float = 0.0
    """How long the request travels; from the timeout on it is done late, and nobody hears of it."""
    answer_s: float = 0.0
    """How long the answer travels; from the timeout on, it is as good as lost."""
    pause_s: float = 0.0
    """How long the caller's whole process stands still before this call."""


OK = Fault()


class Faults(Protocol):
    """Decides what goes wrong, once for every port call and delivery."""

    def at(self, point: FaultPoint) -> Fault:
        """The fault for the call that is about to pass this point."""
        ...


class NoFaults:
    """Everything goes well, at once."""

    def at(self, point: FaultPoint) -> Fault:  # noqa: ARG002 - the shape of the protocol
        """Nothing goes wrong anywhere."""
        return OK


class Crashed(BaseException):
    """This process is dead: not an error anybody handles, so it is no `Exception`."""


class Hook(Protocol):
    """Watches one client pass its points, and may raise `Crashed` there to kill it."""

    def before(self, point: FaultPoint) -> None:
        """The call is about to leave the process."""
        ...

    def after(self, point: FaultPoint) -> None:
        """The call has been carried out, and the process has not heard of it yet."""
        ...


class NoHook:
    """Watches nothing."""

    def before(self, point: FaultPoint) -> None:
        """Let it pass."""

    def after(self, point: FaultPoint) -> None:
        """Let it pass."""


class CrashAt:
    """A hook that kills its client the n-th time it passes a point, before or after the call."""

    def __init__(self, point: FaultPoint, *, after: bool = False, occurrence: int = 1) -> None:
        self._point = point
        self._after = after
        self._left = occurrence

    def before(self, point: FaultPoint) -> None:
        """Count a passage, and die when it is the one.

        Raises:
            Crashed: it is the one.
        """
        self._pass(point, after=False)

    def after(self, point: FaultPoint) -> None:
        """Count a passage, and die when it is the one.

        Raises:
            Crashed: it is the one.
        """
        self._pass(point, after=True)

    def _pass(self, point: FaultPoint, *, after: bool) -> None:
        if point is not self._point or after is not self._after:
            return
        self._left -= 1
        if self._left == 0:
            where = f"{'after' if after else 'before'} {point}"
            raise Crashed(where)
