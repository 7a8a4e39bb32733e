"""Which jobs this worker holds, and what became of calls that were begun before it did. No files.

The root run of a job decides who holds its workspace; every other run of the job is told. A worker
that is cut off may be taken for lost, and not know it: it asks again before it begins anything.
"""

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from commands.place_sandbox import Placed
from domain.commands import ClaimToolCall, PlaceSandbox, RecordToolResult
from domain.content import BlobRef, TextPart
from domain.decisions.lifecycle import UNKNOWN_MESSAGE
from domain.errors import Rejected
from domain.ids import RunRef
from domain.record import canonical
from domain.tools import Safety
from domain.work import CallToolWork
from services.sandbox.journal import Fenced, Journal, Name
from services.worker.keeper import Admission, Begin, Elsewhere, Known, Later

HELD_MAX = 20_000
"""How many runs a worker remembers to hold; of one that is forgotten it asks again."""

WorkspaceKind = Literal["mounted", "copied", "own", "isolated"]


class Asks(Protocol):
    """The way to the runs: what `services.worker.reporter.Reporter` offers of it."""

    async def place(self, ref: RunRef, command: PlaceSandbox) -> Placed | None:
        """Who holds the workspace of a run after this was asked; None when nobody could say."""
        ...

    async def claim(self, ref: RunRef, command: ClaimToolCall) -> bool | None:
        """Whether the call is open, and the holder's to run; None when nobody could say."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """What this worker says of itself when it takes a job."""

    place: str
    epoch: str
    backend: str
    report: str
    snapshots: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A job that is ours. `restored`: what its files come from, if they were lost elsewhere.

    `moved` is the number with which it came here: files are brought back once for it.
    """

    number: int
    restored: BlobRef | None
    moved: int
    earlier: tuple[str, ...]


def root_of(ref: RunRef) -> RunRef:
    """The root run of a job, which has the job's own name."""
    return RunRef(ref.tenant, ref.job, ref.job)


class Placements:
    """The jobs of this life of this worker."""

    def __init__(
        self,
        here: Callable[[], Awaitable[Here]],
        asks: Asks,
        journal: Journal,
        kind: Callable[[RunRef], WorkspaceKind],
    ) -> None:
        """`here` may take a while, and raise: it is when the sandbox is tried out."""
        self._here = here
        self._asks = asks
        self._journal = journal
        self._kind = kind
        self._held: OrderedDict[RunRef, Held] = OrderedDict()
        self._turns: weakref.WeakValueDictionary[RunRef, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )
        self._admitting: set[Name] = set()

    def held(self, ref: RunRef) -> Held | None:
        """What is known of a run that was placed here."""
        return self._held.get(ref)

    def apart(self, ref: RunRef) -> bool:
        """Whether a run has a workspace of its own, not its job's."""
        return self._kind(ref) == "isolated"

    async def hold(self, ref: RunRef, *, take_over: bool = True) -> Held | Elsewhere | Later:
        """Hold the job of a run, if nobody else does; without `take_over`, if this place did.

        Raises:
            Unavailable: there is no sandbox here.
            Rejected: there is no such run.
        """
        root = root_of(ref)
        async with self._turns.setdefault(root, asyncio.Lock()):
            try:
                held = await self._ask(root, None, take_over=take_over)
            except Rejected as error:
                if error.code != "no_such_run" or ref == root:
                    raise
                return await self._ask(ref, None, take_over=take_over)  # named by its starter
            if not isinstance(held, Held) or ref == root:
                return held
            return await self._ask(ref, held.number, take_over=take_over)

    async def _ask(
        self, ref: RunRef, number: int | None, *, take_over: bool
    ) -> Held | Elsewhere | Later:
        here = await self._here()
        await self._journal.open()
        command = PlaceSandbox(
            place=here.place,
            epoch=here.epoch,
            backend=here.backend,
            report=here.report,
            workspace=self._kind(ref),
            snapshots=here.snapshots,
            take_over=take_over,
            number=number,
        )
        placed = await self._asks.place(ref, command)
        if placed is None:
            return Later("nobody could say who holds the workspace")
        if placed.epoch != here.epoch:
            return Elsewhere(placed.epoch)
        if number is None:  # this run decides, and not another before it
            await self._journal.take(ref, placed.number)
        held = self._held[ref] = Held(placed.number, placed.restored, placed.moved, placed.earlier)
        self._held.move_to_end(ref)
        while len(self._held) > HELD_MAX:
            self._held.popitem(last=False)
        return held

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        """Whether a call is to be run here and now; that it begins is durable when it is.

        Raises:
            Unavailable: nobody could say; run nothing.
        """
        name = Name(ref, work.call)
        entry = self._journal.find(name)
        if entry is not None:
            return Known(entry.result)  # None: still at it, or the log has it
        if name in self._admitting:
            return Known(None)
        self._admitting.add(name)
        try:
            return await self._admit(name, ref, work)
        finally:
            self._admitting.discard(name)

    async def _admit(self, name: Name, ref: RunRef, work: CallToolWork) -> Admission:
        known = self._held.get(ref)
        sure = known is not None and known.number == work.number
        held = known if known is not None and sure else await self.hold(ref)
        if not isinstance(held, Held):
            return held
        settled = await self._settled(name, work, held.earlier)
        if settled is not None:
            return settled
        if not sure and work.safety is not Safety.READ_ONLY:
            refused = await self._refused(ref, work)
            if refused is not None:
                return refused
        try:
            await self._journal.begin(name, work.attempt, held.number)
        except Fenced:
            return self.lose(ref)
        return Begin()

    async def still_holds(self, ref: RunRef, held: Held) -> bool:
        """Whether no other life of this place has taken a run's job over meanwhile.

        Raises:
            Unavailable: nobody can say.
        """
        return not await self._journal.fenced(ref, held.number)

    def lose(self, ref: RunRef) -> Later:
        """Another life of this place took the job over while this one was stopped: ask again."""
        for one in (ref, root_of(ref)):
            self._held.pop(one, None)
        return Later("another worker of this place has taken the job over")

    async def _refused(self, ref: RunRef, work: CallToolWork) -> Known | Later | None:
        """Why a call must not be run now: this copy of it may be older than its outcome."""
        here = await self._here()
        claim = ClaimToolCall(call=work.call, attempt=work.attempt, holder=here.epoch)
        granted = await self._asks.claim(ref, claim)
        if granted is None:
            return Later("nobody could say whether the call is still to be run")
        return None if granted else Known(None)

    async def _settled(
        self, name: Name, work: CallToolWork, earlier: tuple[str, ...]
    ) -> Known | None:
        """What earlier lives of this place know of a call; None: it is to be run."""
        doubtful = False
        for epoch in self._journal.lives(earlier):
            journal = await self._journal.earlier(epoch)
            entry = None if journal is None else journal.get(name)
            if entry is not None and entry.result is not None:
                here = await self._here()
                return Known(entry.result.model_copy(update={"holder": here.epoch}))
            doubtful = doubtful or journal is None or entry is not None
        if not doubtful or work.safety is not Safety.UNSAFE:
            return None
        return Known(unknown(work.call, (await self._here()).epoch))


def unknown(call: str, epoch: str) -> RecordToolResult:
    """The outcome of a call that may have run, told in plain words."""
    text = canonical({"error": "outcome_unknown", "message": UNKNOWN_MESSAGE}).decode()
    return RecordToolResult(
        call=call,
        holder=epoch,
        outcome="outcome_unknown",
        content=(TextPart(text=text),),
        is_error=True,
    )
