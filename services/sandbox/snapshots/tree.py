"""What a workspace holds, as data: its entries, and where their content lies. Not how it is kept.

A tree maps paths to entries in walk order: the names of a folder by their bytes, each folder right
before what it holds. Equal workspaces have equal trees, whoever owns the files and whenever they
were written.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from domain.record import Record

PACK_BYTES_MAX = 900_000
"""The most content in one pack, in bytes: what one message of BLOBS holds."""

Kind = Literal["file", "folder", "link"]

Withhold = Callable[[bytes], str | None]
"""The name of a secret that some bytes hold, if any."""


class Entry(NamedTuple):
    """One path below the workspace. Its name and a link's target are bytes, not always UTF-8."""

    path: bytes
    kind: Kind
    mode: int = 0  # permission bits, of files and folders; set-uid, set-gid and sticky are dropped
    size: int = 0  # of a file, in bytes
    digest: str = ""  # SHA-256 of a file's content
    target: bytes = b""  # of a link
    missing: str = ""  # why content is not in the snapshot: `unreadable`, `withheld: NAME`


class Piece(NamedTuple):
    """A part of a file's content: some bytes of a pack."""

    pack: str
    offset: int
    length: int


Tree = Mapping[bytes, Entry]
"""Entries by path, in walk order."""

Places = Mapping[str, tuple[Piece, ...]]
"""The pieces of a content, in order, by its digest."""


class SnapshotRef(Record):
    """A snapshot that is in BLOBS, as a run records it."""

    root: str  # the digest of its manifest
    size: int  # of that manifest, in bytes
    tree: str  # equal for equal workspaces, however they are packed
    files: int
    bytes: int  # of all files
    new_bytes: int  # what this one added to BLOBS
    skipped: int  # sockets, pipes, devices, and what could not be read
    withheld: int  # what holds a secret


class Problem(NamedTuple):
    """Why there is no snapshot; the run goes on without one."""

    code: Literal["too_many_files", "too_many_bytes", "file_too_large", "too_deep", "no_room"]
    message: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot as it was read back from BLOBS, checked."""

    root: str
    digest: str  # of the tree
    tree: Tree
    places: Places
    skipped: int
    withheld: int


def walk_key(path: bytes) -> bytes:
    """What sorts paths in walk order."""
    return path.replace(b"/", b"\0")


def in_walk_order(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """A tree of entries that come in any order."""
    return {entry.path: entry for entry in sorted(entries, key=lambda one: walk_key(one.path))}


def parent_of(path: bytes) -> bytes:
    """The folder a path lies in; empty for the workspace itself."""
    return path.rpartition(b"/")[0]


def shown(path: bytes) -> str:
    """A path for people: what is not UTF-8 is escaped."""
    return path.decode("utf-8", "backslashreplace")
