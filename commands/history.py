"""Reads a run's history: from its snapshot or from the first envelope. Not the cache."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from commands.past import fork_in, read_past
from domain.envelope import FIRST_HASH, Envelope, decode, hash_of, is_tombstone
from domain.errors import IntegrityViolated, TooLarge, Unavailable
from domain.evolve import fold
from domain.ids import RunRef
from domain.snapshot import restore, take
from domain.state import RunState, changed
from eventlog.port import EventLog, Snapshots, Stored

logger = logging.getLogger(__name__)

SNAPSHOT_BYTES_MIN = 256 * 1024
"""How much log must have come since the last snapshot before another is worth it, in bytes."""

SNAPSHOT_SHARE = 4
"""How many times its own size of log a snapshot must save: they stay a fraction of the log (C1)."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as far as this process knows it: its state, and where the next envelope goes."""

    state: RunState
    seq: int = 0  # stream sequence of the run's last envelope
    hash: str = FIRST_HASH
    weight: int = 0  # bytes of the log since the last snapshot
    snapshot: int = 0  # bytes of the last snapshot


def fold_stored(loaded: Loaded, stored: Stored) -> Loaded:
    """The run after one more stored envelope, checked against what was there.

    Raises:
        IntegrityViolated: a gap in the versions, a broken hash chain, or another run's envelope.
    """
    envelope = decode(stored.data)
    state = loaded.state
    if envelope.ref != state.ref:
        msg = f"run {state.ref.run!r} holds an envelope of run {envelope.ref.run!r}"
        raise IntegrityViolated(msg)
    if state.version or not is_tombstone(envelope):
        _check_follows(loaded, envelope)
    return replace(
        loaded,
        state=fold(state, envelope),
        seq=stored.seq,
        hash=hash_of(stored.data),
        weight=loaded.weight + len(stored.data),
    )


def _check_follows(loaded: Loaded, envelope: Envelope) -> None:
    run, version = loaded.state.ref.run, loaded.state.version
    if envelope.version != version + 1:
        msg = f"run {run!r}: version {envelope.version} follows {version}"
        raise IntegrityViolated(msg)
    if envelope.prev != loaded.hash:
        msg = f"run {run!r}: version {envelope.version} does not follow what is stored"
        raise IntegrityViolated(msg)


async def catch_up(log: EventLog, loaded: Loaded) -> Loaded:
    """The run with what was stored since, and with its past if it is a fork.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: the stored history is not what was written.
    """
    later = await log.load(loaded.state.ref, after_seq=loaded.seq)
    if loaded.state.version == 0:
        loaded = await _with_past(log, loaded, later)
    for stored in later:
        if stored.seq > loaded.seq:
            loaded = fold_stored(loaded, stored)
    return loaded


async def _with_past(log: EventLog, loaded: Loaded, stored: Sequence[Stored]) -> Loaded:
    """The run before its first event, with the past that this event names, if it is a fork."""
    forked = fork_in(stored)
    if forked is None:
        return loaded
    past = await read_past(log, loaded.state.ref.tenant, forked.source, forked.results)
    with_past = changed(loaded.state, past=past.state)
    return replace(loaded, state=with_past, weight=loaded.weight + past.weight)


@dataclass(frozen=True, slots=True)
class History:
    """The stored history of runs."""

    log: EventLog
    snapshots: Snapshots
    snapshot_bytes_min: int = SNAPSHOT_BYTES_MIN

    async def catch_up(self, loaded: Loaded) -> Loaded:
        """The run with what was stored since.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: the stored history is not what was written.
        """
        return await catch_up(self.log, loaded)

    async def read(self, ref: RunRef) -> Loaded:
        """The run from its snapshot, if that stands in the log as it says; else from the start.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: the stored history is not what was written.
        """
        data = await self.snapshots.get(ref)
        snapshot = restore(ref, data) if data else None
        if data is None or snapshot is None:
            return await self.read_whole(ref)
        later = await self.log.load(ref, after_seq=snapshot.seq - 1)
        if not later or later[0].seq != snapshot.seq or hash_of(later[0].data) != snapshot.hash:
            logger.warning("the snapshot of run %s does not fit the log and is not used", ref.run)
            return await self.read_whole(ref)
        loaded = Loaded(snapshot.state, snapshot.seq, snapshot.hash, snapshot=len(data))
        for stored in later[1:]:
            loaded = fold_stored(loaded, stored)
        return loaded

    async def read_whole(self, ref: RunRef) -> Loaded:
        """The run from its first envelope, with all messages.

        Raises:
            Unavailable: the store is away.
            IntegrityViolated: the stored history is not what was written.
        """
        return await self.catch_up(Loaded(RunState(ref=ref)))

    async def keep(self, loaded: Loaded) -> Loaded:
        """Take a snapshot when the log since the last one outweighs it; losing it is harmless."""
        if loaded.weight < max(self.snapshot_bytes_min, SNAPSHOT_SHARE * loaded.snapshot):
            return loaded
        data = take(loaded.state, loaded.seq, loaded.hash)
        try:
            await self.snapshots.put(loaded.state.ref, data)
        except (TooLarge, Unavailable) as error:
            logger.info("no snapshot of run %s: %s", loaded.state.ref.run, error)
        return replace(loaded, weight=0, snapshot=len(data))
