"""Which files a place in a run's history goes with, by what the log of its job says. No files."""

from typing import NamedTuple

from commands.past import Past, fork_in
from domain.envelope import decode
from domain.events import SnapshotTaken
from domain.ids import RunRef
from domain.state import RunState
from eventlog.port import EventLog, Stored


class FilesThen(NamedTuple):
    """The newest snapshot up to some version; `differ`: the history may show other files."""

    taken: SnapshotTaken | None
    differ: bool


class _Found(NamedTuple):
    seq: int  # where the checkpoint is in the stream, as far as it is known
    taken: SnapshotTaken


async def files_at(log: EventLog, ref: RunRef, past: Past) -> FilesThen:
    """The files that belong to a run as it was.

    The root run knows of all snapshots of its job: of the run itself, that of a checkpoint up to
    there counts, whenever it was stored; of another run, one that was known by then.

    Raises:
        Unavailable: the log is away.
        IntegrityViolated: what is stored is not what was written.
    """
    stored = await log.load(ref)
    root = RunRef(ref.tenant, ref.job, ref.job)
    found = _snapshots(stored, ref, past)
    if root != ref:
        found += _snapshots(await log.load(root), ref, past)
    found.sort(key=lambda one: (one.seq, one.taken.version))
    forked = fork_in(stored)
    inherited = forked.files if forked is not None else None
    newest = next((one.taken for one in reversed(found) if one.taken.manifest), inherited)
    failed = bool(found) and found[-1].taken.manifest is None
    return FilesThen(newest, failed or _may_differ(past.state, newest))


def _snapshots(stored: list[Stored], ref: RunRef, past: Past) -> list[_Found]:
    found: list[_Found] = []
    begins = [(decode(item.data).version, item.seq) for item in stored]
    for item in stored:
        for event in decode(item.data).events:
            if not isinstance(event, SnapshotTaken):
                continue
            if event.run == ref.run and event.version <= past.state.version:
                held = [seq for version, seq in begins if version <= event.version]
                found.append(_Found(held[-1] if item.ref == ref else item.seq, event))
            elif event.run != ref.run and item.seq <= past.seq:
                found.append(_Found(item.seq, event))
    return found


def _may_differ(past: RunState, taken: SnapshotTaken | None) -> bool:
    """Whether what was written up to there is not all in the snapshot, and nothing else is."""
    if taken is None:
        return past.sandbox is not None
    if past.wrote or not taken.exact or taken.withheld or taken.skipped:
        return True
    due = past.snapshot_due
    if due is not None:
        return taken.run != past.ref.run or taken.version < due.version
    return taken != past.snapshot
