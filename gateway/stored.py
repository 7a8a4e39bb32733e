"""The files that snapshots hold, as the gateway asks for them: a port. Not how they are kept."""

from collections.abc import AsyncIterator, Sequence
from typing import Literal, NamedTuple, Protocol

from domain.ids import RunRef


class StoredFile(NamedTuple):
    """One entry of a workspace. `missing` says why a file's content is not there."""

    path: str
    kind: Literal["file", "folder", "link"]
    bytes: int
    digest: str | None
    missing: str


class Listed(NamedTuple):
    """The files after a step of a run."""

    run: str
    step: int
    name: str  # of these files: others have another
    files: Sequence[StoredFile]


Pieces = AsyncIterator[bytes]


class Opened(NamedTuple):
    """A file's content. Nothing of it was read before the first piece is asked for."""

    path: str
    size: int
    digest: str
    pieces: Pieces


class FileChange(NamedTuple):
    """A path that is not the same; `diff` is the text of it, for the file that was asked for."""

    path: str
    what: Literal["added", "removed", "changed", "mode", "unknown"]
    diff: str | None


class Where(NamedTuple):
    """A run's files: after that step, or the newest there are."""

    ref: RunRef
    step: int | None = None


class StoredFiles(Protocol):
    """What is in snapshots, within the tenant of the run that is named."""

    async def list(self, where: Where, folder: str = "") -> Listed | None:
        """Everything in a folder and below it, or the one file; None when no snapshot was taken.

        Raises:
            Rejected: that step has no snapshot, or nothing is at the path.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        ...

    async def open(self, where: Where, path: str) -> Opened:
        """One file.

        Raises:
            Rejected: there is no snapshot, or no such file, or its content is not in it.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        ...

    async def changes(self, first: Where, second: Where, path: str = "") -> Sequence[FileChange]:
        """What is different in the second; with a path only there, and for a file its lines.

        Raises:
            Rejected: one of them has no snapshot.
            Unavailable: the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        ...
