"""Loads, decides and appends: the one way events get into the log (rules 1, 4). Not effects."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from commands.history import SNAPSHOT_BYTES_MIN, History, Loaded
from domain.commands import Command, Situation
from domain.decide import Conclusion, conclude
from domain.decisions.deletion import gone, must_be_there
from domain.envelope import Cause, Envelope, decode, encode, hash_of, tombstone_in
from domain.errors import AppendUnknown, Conflict, IntegrityViolated, Rejected, Unavailable
from domain.events import Event
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import Backbone

logger = logging.getLogger(__name__)

CACHED_RUNS_MAX = 2_000
UNKNOWN_TRIES_MAX = 12
FORGOTTEN_AFTER = 2
BLIND_MAX = 8
"""How many conflicts in a row may show nothing new: over 7 s, which no write in process takes."""

UNKNOWN_PAUSE_S = 0.2
UNKNOWN_PAUSE_MAX_S = 3.0
"""Together a good 20 s: longer than a leader election (4 to 9 s, nats-server raft.go)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command came to: the run before and after, and the events in between."""

    before: RunState
    after: RunState
    events: tuple[Event, ...]


def _weighed(loaded: Loaded, situation: Situation) -> Loaded:
    """A fork that begins is worth a snapshot soon: its past is read with it."""
    if situation.origin is None or loaded.state.version:
        return loaded
    return replace(loaded, weight=situation.origin.weight)


@dataclass(slots=True)
class _Turns:
    """Decisions about one run in this process take turns: they would only conflict."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class RunStore:
    """Runs of the log, cached: a cached run is a guess that the append verifies."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        epoch: str,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
        snapshot_bytes_min: int = SNAPSHOT_BYTES_MIN,
    ) -> None:
        """`epoch` signs the envelopes; `now_ms` and `new_id` are this process's clock and ids."""
        self._log = backbone.log
        self._history = History(backbone.log, backbone.snapshots, snapshot_bytes_min)
        self._epoch = epoch
        self._new_id = new_id
        self.now_ms = now_ms
        self._cache: OrderedDict[RunRef, Loaded] = OrderedDict()
        self._locks: dict[RunRef, _Turns] = {}

    async def fresh(self, ref: RunRef) -> Loaded:
        """The run as the log has it now.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: the stored history is not what was written.
        """
        cached = self._cache.get(ref)
        if cached is None:
            loaded = await self._history.read(ref)
        else:
            loaded = await self._history.catch_up(cached)
        self._keep(ref, loaded)
        return loaded

    async def refuse_deleted(self, ref: RunRef) -> None:
        """Pass only while the job of a run is there; the tombstone of a job lies at its root.

        Raises:
            Rejected: `gone`.
            Unavailable: the store is away.
        """
        root = RunRef(ref.tenant, ref.job, ref.job)
        cached = self._cache.get(root)
        later = await self._log.load(root, after_seq=cached.seq if cached else 0)
        if later and tombstone_in(later[-1].data):
            raise gone(ref.job)
        if cached is not None:
            must_be_there(cached.state)

    async def known(self, ref: RunRef) -> Loaded:
        """The run as this process last saw it; from the log when it never did."""
        return self._cache.get(ref) or await self.fresh(ref)

    async def whole(self, ref: RunRef) -> Loaded:
        """The run with all messages of its conversation, as generating needs it.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: the stored history is not what was written.
        """
        loaded = await self.known(ref)
        if loaded.state.conversation.whole:
            return loaded
        self.forget(ref)
        loaded = await self._history.read_whole(ref)
        self._keep(ref, loaded)
        return loaded

    def forget(self, ref: RunRef) -> None:
        """Drop what is cached of a run."""
        self._cache.pop(ref, None)

    def _keep(self, ref: RunRef, loaded: Loaded) -> None:
        held = self._cache.get(ref)
        if held is not None and held.seq > loaded.seq:
            return
        self._cache[ref] = loaded
        self._cache.move_to_end(ref)
        while len(self._cache) > CACHED_RUNS_MAX:
            self._cache.popitem(last=False)

    async def execute(self, ref: RunRef, command: Command, situation: Situation) -> Decision:
        """Decide a command and append what follows: one envelope, or nothing.

        Raises:
            Rejected: the command is wrong for this run.
            Unavailable: it could not be decided or stored now; the same command may be sent again.
            TooLarge: what follows does not fit into one envelope, now or ever.
            IntegrityViolated: the stored history is not what was written.
        """
        lock = self._locks.setdefault(ref, _Turns())
        lock.users += 1
        try:
            async with lock.lock:
                return await self._execute(ref, command, situation)
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[ref]

    async def _execute(self, ref: RunRef, command: Command, situation: Situation) -> Decision:
        loaded = self._cache.get(ref)
        certain = loaded is None
        loaded = loaded or await self.fresh(ref)
        blind = 0
        for _ in range(loaded.state.limits.conflicts_max):
            conclusion = None
            try:
                conclusion = conclude(loaded.state, command, situation)
            except Rejected:
                if certain:
                    raise
            if conclusion is None or not conclusion.events:
                if certain:
                    return Decision(loaded.state, loaded.state, ())
                # "Nothing to do" or "no" may come from an old state: only a fresh one says so.
                loaded, certain = await self.fresh(ref), True
                continue
            try:
                return await self._append(_weighed(loaded, situation), command, conclusion)
            except Conflict:
                seen, loaded, certain = loaded.seq, await self.fresh(ref), True
                blind = blind + 1 if loaded.seq == seen else 0
                if blind == FORGOTTEN_AFTER:  # what is cached may have been deleted
                    self.forget(ref)
                    loaded = await self.fresh(ref)
                await self._bear(ref, blind)
        msg = f"run {ref.run!r} changed under every try to decide {command.type}"
        raise Unavailable(msg)

    async def _bear(self, ref: RunRef, blind: int) -> None:
        """Wait a little when a conflict shows nothing new; too often in a row is damage.

        A cluster may say so now and then while another write is in process (server code 10164).

        Raises:
            IntegrityViolated: the log counts an envelope of this run that it cannot show.
        """
        if blind > BLIND_MAX:
            self.forget(ref)
            msg = f"run {ref.run!r}: the log counts an envelope that it does not show"
            raise IntegrityViolated(msg)
        if blind:
            await asyncio.sleep(UNKNOWN_PAUSE_S * blind)

    async def _append(self, loaded: Loaded, command: Command, conclusion: Conclusion) -> Decision:
        state = loaded.state
        if not state.version and state.ref.run != state.ref.job:
            await self.refuse_deleted(state.ref)  # by now its last envelope would be gone, too
        envelope = Envelope(
            id=self._new_id(),
            ref=state.ref,
            version=state.version + 1,
            at_ms=conclusion.after.at_ms,
            cause=Cause(type=command.type, id=getattr(command, "id", "")),
            by=self._epoch,
            prev=loaded.hash,
            events=conclusion.events,
        )
        data = encode(envelope)
        seq = await self._store(loaded, envelope.id, data)
        after = replace(
            loaded,
            state=conclusion.after,
            seq=seq,
            hash=hash_of(data),
            weight=loaded.weight + len(data),
        )
        after = await self._history.keep(after)
        self._keep(state.ref, after)
        return Decision(state, after.state, conclusion.events)

    async def _store(self, loaded: Loaded, envelope_id: str, data: bytes) -> int:
        """Append, and find out what happened when no answer came (rule 4)."""
        ref, pause_s, doubtful = loaded.state.ref, UNKNOWN_PAUSE_S, False
        for _ in range(UNKNOWN_TRIES_MAX):
            try:
                return await self._log.append(ref, data, expected_seq=loaded.seq)
            except Conflict:
                found = await self._ours(loaded, envelope_id) if doubtful else None
                if found is None:
                    raise
                return found
            except AppendUnknown:
                doubtful = True
                logger.warning("append to run %s got no answer; looking for it", ref.run)
            except Unavailable:
                logger.warning("the log is away; run %s waits", ref.run)
            try:
                found = await self._ours(loaded, envelope_id) if doubtful else None
            except Unavailable:
                found = None
            if found is not None:
                return found
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, UNKNOWN_PAUSE_MAX_S)
        msg = f"the log did not take an envelope of run {ref.run!r}"
        raise Unavailable(msg)

    async def _ours(self, loaded: Loaded, envelope_id: str) -> int | None:
        """The sequence of our envelope, if it is the one that follows; None if nothing follows.

        Raises:
            Conflict: another envelope follows.
        """
        later = await self._log.load(loaded.state.ref, after_seq=loaded.seq)
        if not later:
            return None
        if decode(later[0].data).id != envelope_id:
            msg = f"run {loaded.state.ref.run!r} went on without us"
            raise Conflict(msg)
        return later[0].seq
