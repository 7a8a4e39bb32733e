"""Whether a manifest may be believed: nothing in it leads out of a workspace or is there twice.

Manifests are content-addressed, so what a run recorded is what is read; but a restore writes what
it is told, so that is checked as if anybody had written it. Not a check of any content.
"""

from collections.abc import Iterable

from domain.errors import IntegrityViolated
from domain.sandbox import SandboxLimits
from services.sandbox.paths import is_state_folder
from services.sandbox.snapshots.scan import DEPTH_MAX, PERMISSIONS
from services.sandbox.snapshots.tree import (
    PACK_BYTES_MAX,
    Entry,
    Piece,
    Places,
    parent_of,
    shown,
    walk_key,
)

NAME_BYTES_MAX = 255
PATH_BYTES_MAX = (NAME_BYTES_MAX + 1) * (DEPTH_MAX + 1)
TARGET_BYTES_MAX = 4095


def checked_tree(entries: Iterable[Entry], limits: SandboxLimits) -> dict[bytes, Entry]:
    """Entries as a tree, if they can be one.

    Raises:
        IntegrityViolated: they lead out of a workspace, lie in no folder, come twice or in another
            order, name the state folder, or are more than the limits say.
    """
    tree: dict[bytes, Entry] = {}
    last = b""
    size = 0
    for entry in entries:
        _check_path(entry.path)
        _check_values(entry)
        key = walk_key(entry.path)
        if key <= last:
            raise _refused(entry, "comes twice or out of order")
        last = key
        parent = parent_of(entry.path)
        if parent and (parent not in tree or tree[parent].kind != "folder"):
            raise _refused(entry, "lies in no folder")
        size += entry.size
        tree[entry.path] = entry
        if len(tree) > limits.workspace_files or size > limits.workspace_bytes:
            text = f"has more than {limits.workspace_files} files or {limits.workspace_bytes} bytes"
            msg = f"the snapshot {text}"
            raise IntegrityViolated(msg)
    return tree


def check_places(tree: Iterable[Entry], places: Places) -> None:
    """Every content is somewhere and as long as its file.

    Raises:
        IntegrityViolated: one is not.
    """
    for entry in tree:
        if entry.kind != "file" or entry.missing:
            continue
        pieces = places[entry.digest]
        if sum(piece.length for piece in pieces) != entry.size:
            raise _refused(entry, "has pieces of another length")
        if not all(_in_a_pack(piece) for piece in pieces):
            raise _refused(entry, "has pieces that cannot be")


def _in_a_pack(piece: Piece) -> bool:
    return piece.length > 0 and piece.offset + piece.length <= PACK_BYTES_MAX


def _check_path(path: bytes) -> None:
    names = path.split(b"/")
    if len(path) > PATH_BYTES_MAX or len(names) > DEPTH_MAX + 1:
        msg = "the snapshot has a path that is too long"
        raise IntegrityViolated(msg)
    for name in names:
        if name in {b"", b".", b".."} or b"\0" in name or len(name) > NAME_BYTES_MAX:
            msg = f"the snapshot has a path that cannot be: {shown(path[:200])!r}"
            raise IntegrityViolated(msg)
    if is_state_folder(names[0].decode("utf-8", "surrogateescape")):
        msg = "the snapshot names the state folder"
        raise IntegrityViolated(msg)


def _check_values(entry: Entry) -> None:
    if not 0 <= entry.mode <= PERMISSIONS:
        raise _refused(entry, f"has mode {entry.mode:o}")
    if entry.size < 0:
        raise _refused(entry, "has less than no bytes")
    if entry.kind == "link" and (
        not entry.target or b"\0" in entry.target or len(entry.target) > TARGET_BYTES_MAX
    ):
        raise _refused(entry, "is a link to nothing")


def _refused(entry: Entry, text: str) -> IntegrityViolated:
    return IntegrityViolated(f"in the snapshot, {shown(entry.path[:200])!r} {text}")
