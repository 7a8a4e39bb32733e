"""The files of snapshots for those who are not where the workspace is. Never of the workspace."""

from collections.abc import AsyncGenerator, Sequence

from domain.errors import Rejected
from domain.ids import RunRef
from eventlog.port import Backbone
from gateway.stored import FileChange, Listed, Opened, StoredFile, Where
from peritus.files import History, Snapshot, history_of, key_of, readable, text_of_change
from services.sandbox.snapshots.contents import piece_of
from services.sandbox.snapshots.diff import Change, diff
from services.sandbox.snapshots.tree import Entry, Piece, shown


class SnapshotFiles:
    """The files of the runs of one deployment."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    async def list(self, where: Where, folder: str = "") -> Listed | None:
        """Everything in a folder and below it, or the one file; None when no snapshot was taken.

        Raises:
            Rejected: that step has no snapshot, or nothing is at the path.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        history = await history_of(self._backbone.log, where.ref)
        if where.step is None and history.newest is None:
            return None
        found = await self._version(where, history)
        files = [_file(one) for one in found.below(folder)]
        return Listed(found.run, found.step, found.name, files)

    async def open(self, where: Where, path: str) -> Opened:
        """One file.

        Raises:
            Rejected: there is no snapshot, or no such file, or its content is not in it.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        found = await self._version(where)
        entry = readable(found.entry(path))
        pieces = self._pieces(where.ref, found.places[entry.digest])
        return Opened(shown(entry.path), entry.size, entry.digest, pieces)

    async def changes(self, first: Where, second: Where, path: str = "") -> Sequence[FileChange]:
        """What is different in the second; with a path only there, and for a file its lines.

        Raises:
            Rejected: one of them has no snapshot.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        before, after = await self._version(first), await self._version(second)
        key = key_of(path)
        changes = [one for one in diff(before.tree, after.tree) if _within(one.path, key)]
        return [await _change(one, key, before, after) for one in changes]

    async def _version(self, where: Where, history: History | None = None) -> Snapshot:
        if history is None:
            history = await history_of(self._backbone.log, where.ref)
        if where.step is None and history.newest is None:
            raise Rejected("no_snapshot", "no snapshot of the files was taken")
        taken = history.newest if where.step is None else None
        return await Snapshot.load(
            self._backbone.blobs, where.ref.tenant, taken or history.chosen(where.step)
        )

    async def _pieces(self, ref: RunRef, places: Sequence[Piece]) -> AsyncGenerator[bytes]:
        for place in places:
            yield bytes(piece_of(await self._backbone.blobs.get(ref.tenant, place.pack), place))


def _file(entry: Entry) -> StoredFile:
    digest = entry.digest if entry.kind == "file" and not entry.missing else None
    return StoredFile(shown(entry.path), entry.kind, entry.size, digest or None, entry.missing)


def _within(changed: bytes, key: bytes) -> bool:
    return not key or changed == key or changed.startswith(key + b"/")


async def _change(change: Change, key: bytes, before: Snapshot, after: Snapshot) -> FileChange:
    sides = [one for one in (change.before, change.after) if one is not None]
    what = "unknown" if any(one.missing for one in sides) else change.what
    lines = change.path == key and what not in ("unknown", "mode")
    is_file = all(one.kind == "file" for one in sides)
    text = await text_of_change(change, before, after) if lines and is_file else None
    return FileChange(shown(change.path), what, text)
