"""Reading a snapshot back: its manifest, checked, and its files into a workspace, exactly.

What the manifest does not have is removed, what is equal is left alone, and whatever could not be
in the snapshot is named. Not durable on the disk: after a power loss, restore again.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from domain.errors import IntegrityViolated
from domain.sandbox import SandboxLimits
from eventlog.port import Blobs
from services.sandbox.snapshots.apply import Mode, Steps, apply, open_up_for
from services.sandbox.snapshots.check import check_places, checked_tree
from services.sandbox.snapshots.contents import BlobContents, piece_of
from services.sandbox.snapshots.folders import Target
from services.sandbox.snapshots.format import Shard, decode_root, decode_shard, tree_digest
from services.sandbox.snapshots.packs import OnlyDigests
from services.sandbox.snapshots.scan import Known, OverLimit, Scanner
from services.sandbox.snapshots.spread import spread
from services.sandbox.snapshots.tree import Entry, Manifest, Piece, Tree, shown

SHARDS_AT_ONCE = 8

UNLIMITED = SandboxLimits(workspace_bytes=2**62, workspace_files=2**40, file_bytes=2**62)
"""What a workspace may hold that is about to be emptied anyway."""


class Restored(NamedTuple):
    """What a restore did. `missing` are paths whose content no snapshot has, and why."""

    files: int  # written
    bytes: int  # written
    removed: int  # entries, a folder with all in it being one
    missing: tuple[tuple[str, str], ...]
    skipped: int  # what the snapshot left out when it was taken: sockets, pipes, devices


async def load(
    blobs: Blobs, tenant: str, root: str, limits: SandboxLimits | None = None
) -> Manifest:
    """The manifest of that digest, checked as if anybody had written it.

    Raises:
        Unavailable: BLOBS is away.
        IntegrityViolated: it is not there, or is not the manifest of a workspace within the limits.
    """
    limits = limits or SandboxLimits()
    head = decode_root(await blobs.get(tenant, root))
    if sum(shard.rows for shard in head.shards) > limits.workspace_files:
        msg = f"the snapshot has more than {limits.workspace_files} files"
        raise IntegrityViolated(msg)
    if tree_digest(head.shards) != head.tree:
        msg = "the manifest does not fit its own shards"
        raise IntegrityViolated(msg)
    read: dict[int, tuple[list[Entry], dict[str, tuple[Piece, ...]]]] = {}

    async def fetch(numbered: tuple[int, Shard]) -> None:
        number, shard = numbered
        data = await blobs.get(tenant, shard.digest)
        read[number] = await asyncio.to_thread(decode_shard, data, shard)

    await spread(enumerate(head.shards), fetch, at_once=SHARDS_AT_ONCE)

    def assemble() -> Manifest:
        parts = [read[number] for number in range(len(head.shards))]
        tree = checked_tree((entry for entries, _ in parts for entry in entries), limits)
        places = {digest: at for _, some in parts for digest, at in some.items()}
        check_places(tree.values(), places)
        return Manifest(root, head.tree, tree, places, head.skipped, head.withheld)

    return await asyncio.to_thread(assemble)


async def read(
    blobs: Blobs, tenant: str, manifest: Manifest, path: bytes, bytes_max: int
) -> bytes | None:
    """The content of one file of a snapshot, at most its first `bytes_max` bytes.

    None when the snapshot has no such file, or not its content.

    Raises:
        Unavailable: BLOBS is away.
        IntegrityViolated: the content is gone or is not what was stored.
    """
    entry = manifest.tree.get(path)
    if entry is None or entry.kind != "file" or entry.missing:
        return None
    content = bytearray()
    for piece in manifest.places[entry.digest]:
        if len(content) >= bytes_max:
            break
        content += piece_of(await blobs.get(tenant, piece.pack), piece)
    return bytes(content[:bytes_max])


async def restore(
    blobs: Blobs,
    tenant: str,
    manifest: Manifest,
    workspace: int,
    known: Mapping[bytes, Known] | None = None,
) -> Restored:
    """Make a workspace (any descriptor of it) equal to a snapshot. Twice is fine.

    `known` saves reading what has not changed since it was captured.

    Raises:
        Unavailable: BLOBS is away; what was written so far stays.
        IntegrityViolated: a content is gone or is not what was stored.
        OSError: the workspace cannot be read or written.
    """
    live = await asyncio.to_thread(_look, workspace, manifest.tree, known or {})
    steps = exact_steps(live, manifest.tree)
    await apply(steps, BlobContents(blobs, tenant, manifest.places), workspace, whole=False)
    written = [entry for entry in steps.make if entry.kind == "file"]
    return Restored(
        files=len(written),
        bytes=sum(entry.size for entry in written),
        removed=len(steps.clear),
        missing=tuple((shown(e.path), e.missing) for e in manifest.tree.values() if e.missing),
        skipped=manifest.skipped,
    )


def _look(workspace: int, wanted: Tree, known: Mapping[bytes, Known]) -> Tree:
    """What is there, with the digests of files that may be left as they are."""
    scanner = Scanner(
        OnlyDigests(),
        UNLIMITED,
        known=known,
        wanted=lambda path, found: (
            (entry := wanted.get(path)) is not None
            and entry.size == found.st_size
            and found.st_nlink == 1  # one of two names would change with the other
        ),
    )
    try:
        scan = scanner.scan(workspace)
    except OverLimit:  # folders too deep to look at are not worth keeping
        with Target(workspace) as target:
            target.clear()
        return {}
    return {path: one.entry for path, one in scan.known.items()}


def exact_steps(live: Tree, wanted: Tree) -> Steps:
    """The steps that make one tree into the other."""
    steps = Steps()
    cleared = b"\0"  # no path begins like this
    kept: set[bytes] = set()
    for path, entry in live.items():
        if path.startswith(cleared):
            continue
        aim = wanted.get(path)
        if aim is not None and aim.missing:
            kept.add(path)
            if aim.kind == "folder":
                cleared = path + b"/"  # nobody knows what was in there: left as it is
        elif aim is None or not _same_content(entry, aim):
            steps.clear.append(path)
            cleared = path + b"/"
        else:
            kept.add(path)
    for path, aim in wanted.items():
        if path not in kept and not (aim.missing and aim.kind == "file"):
            steps.make.append(aim)
        made_folder = path not in kept and aim.kind == "folder"
        other_mode = path in kept and aim.kind != "link" and live[path].mode != aim.mode
        if made_folder or (other_mode and not aim.missing):
            steps.modes.append(Mode(path, aim.mode))
    open_up_for(steps, live)
    return steps


def _same_content(entry: Entry, aim: Entry) -> bool:
    return (
        entry.kind == aim.kind
        and entry.target == aim.target
        and (entry.kind != "file" or (bool(entry.digest) and entry.digest == aim.digest))
    )
