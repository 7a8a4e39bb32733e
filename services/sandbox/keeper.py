"""Keeps jobs on this worker: admission by placement and journal, snapshots in the background.

Not the workspaces: whoever takes a snapshot has those.
"""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable

from domain.commands import RecordSnapshot, RecordToolResult
from domain.errors import Rejected, Unavailable
from domain.events import SnapshotTaken
from domain.ids import RunRef
from domain.work import CallToolWork, SnapshotWork
from services.sandbox.journal import Journal, Name
from services.sandbox.placement import Held, Placements, root_of
from services.worker.keeper import Admission, Elsewhere, Known, Later
from services.worker.reporter import Reporter

logger = logging.getLogger(__name__)

Take = Callable[[RunRef, SnapshotWork], Awaitable[SnapshotTaken | None]]
"""Stores the files of a run's workspace; None when there is nothing to store."""


class JobKeeper:
    """Fills the port `Keeper`."""

    def __init__(
        self, placements: Placements, journal: Journal, reporter: Reporter, take: Take
    ) -> None:
        self._placements = placements
        self._journal = journal
        self._reporter = reporter
        self._take = take
        self._turns: weakref.WeakValueDictionary[RunRef, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def admit(self, ref: RunRef, work: CallToolWork) -> Admission:
        """Whether a call is to be run here and now.

        Raises:
            Unavailable: nobody could say; run nothing.
        """
        try:
            return await self._placements.admit(ref, work)
        except Rejected as error:
            logger.warning("a call of run %s is dropped: %s", ref.run, error)
            return Known(None)

    async def ended(self, ref: RunRef, result: RecordToolResult) -> None:
        """Write down what a call came to, before it is reported."""
        name = Name(ref, result.call)
        if self._journal.find(name) is None:
            return  # it never began
        try:
            await self._journal.end(name, result)
        except Unavailable:
            logger.exception("the result of %s/%s is not in the journal", ref.run, result.call)

    async def recorded(self, ref: RunRef, call: str) -> None:
        """The log has it: it need not be remembered any more."""
        self._journal.settle(Name(ref, call))

    async def snapshot(self, ref: RunRef, work: SnapshotWork) -> Elsewhere | Later | None:
        """Store the files of a run's workspace and have that recorded; None when that is done.

        Raises:
            Unavailable: not now.
        """
        known = self._placements.held(ref)
        try:
            if known is not None and known.number == work.number:
                held: Held | Elsewhere | Later = known  # at once: what writes next is to wait
            else:
                held = await self._placements.hold(ref, take_over=False)
        except Rejected as error:
            logger.warning("a snapshot of run %s is dropped: %s", ref.run, error)
            return None
        if not isinstance(held, Held):
            return held
        taken = await self._take(ref, work)
        return None if taken is None else await self._record(ref, held, RecordSnapshot(taken=taken))

    async def _record(self, ref: RunRef, held: Held, command: RecordSnapshot) -> Later | None:
        """Have a snapshot recorded in each run that is to know of it.

        Those of a job one after the other, as they were stored: the last is the newest of the root.
        Not one that was taken before another worker took the job over: it may be of files that are
        no more, and newer ones may be recorded already.
        """
        root = root_of(ref)
        shared = ref != root and not self._placements.apart(ref)
        told = (root, ref) if shared and self._placements.held(root) is not None else (ref,)
        async with self._turns.setdefault(root, asyncio.Lock()):
            for one in told:
                if not await self._placements.still_holds(ref, held):
                    return self._placements.lose(ref)
                await self._reporter.snapshot(one, command)
        return None
