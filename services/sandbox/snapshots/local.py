"""One room's part of the local store: what was captured, and what of it is not in BLOBS yet.

All of it blocks, and is called in threads. Not the way to BLOBS.
"""

import logging
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from domain.sandbox import SandboxLimits
from eventlog.port import BLOB_FRESH_S
from services.sandbox.snapshots import index as index_file
from services.sandbox.snapshots.format import Shard, cut, encode_root, encode_shard, tree_digest
from services.sandbox.snapshots.index import Index
from services.sandbox.snapshots.packs import NoRoom, PackWriter
from services.sandbox.snapshots.scan import (
    CTIME_WINDOW_NS,
    LONGEST_BYTES,
    MAPPED_WINDOW_NS,
    Known,
    OverLimit,
    Scan,
    Scanner,
)
from services.sandbox.snapshots.tree import Entry, Manifest, Places, Problem, Withhold

logger = logging.getLogger(__name__)

TRUST_NS = int(BLOB_FRESH_S * 1e9)
"""How long what was stored is taken to be there: a snapshot whose event was never stored names its
packs in vain, and blobs that nothing names are collected after some time."""

INDEX_LAG_BYTES = 8 * 1024 * 1024
"""How much may be uploaded before the index is written again: what a crash costs to do twice."""


@dataclass(frozen=True, slots=True)
class Look:
    """How to look at a workspace.

    `withhold_key` names the set of secrets that `withhold` knows: without one, and when it is
    another one than last time, every file is read again. `running` says that processes live in the
    sandbox: what they have mapped may change without a sign for a while.
    """

    limits: SandboxLimits = field(default_factory=SandboxLimits)
    withhold: Withhold | None = None
    withhold_key: str = ""
    withhold_longest: int = LONGEST_BYTES
    running: bool = False


@dataclass(frozen=True, slots=True)
class Captured:
    """A workspace as it was at one moment, in the local store."""

    tenant: str
    room: str
    key: str  # which secrets it was looked at for
    scan: Scan
    places: Places  # of all its contents, and of some that are no more


class Draft(NamedTuple):
    """The manifest of a capture, and what of it is not in BLOBS yet: `packs` and `fresh` shards."""

    root: bytes
    tree: str
    shards: dict[bytes, tuple[list[Entry], Shard]]
    """By their first path, with what is in them."""
    fresh: dict[str, bytes]
    packs: set[str]
    places: Places


class LocalRoom:
    """A folder with an index of what is in BLOBS and packs of what is not."""

    def __init__(self, folder: Path) -> None:
        """Take the folder over; packs of an earlier life are removed, they are captured again.

        Raises:
            OSError: the folder cannot be made.
        """
        self.packs = folder / "packs"
        self._folder = folder
        self._index = folder / "index.json"
        shutil.rmtree(self.packs, ignore_errors=True)
        self.packs.mkdir(parents=True, mode=0o700)
        stored = index_file.load(self._index)
        self._key = stored.key
        self._known: Mapping[bytes, Known] = stored.known
        self._places: Places = stored.places
        self._stored_shards = stored.shards
        self._shards: dict[bytes, tuple[list[Entry], Shard]] = {}  # of _stored_shards
        self._stored = _packs_of(stored.places)
        self._stored_ns = _changed_ns(self._index)
        self._captured_ns = 0
        self.pending: dict[str, int] = {}  # packs that are not in BLOBS, and their sizes
        self._unsaved: Index | None = None
        self._unsaved_bytes = 0
        self._one_at_a_time = threading.Lock()

    @property
    def known(self) -> Mapping[bytes, Known]:
        """The entries of the last capture, with their stamps."""
        return self._known

    def capture(
        self, tenant: str, room: str, workspace: int, look: Look, now_ns: int
    ) -> Captured | Problem:
        """Look at a workspace and copy what is new into packs."""
        with self._one_at_a_time:
            self._captured_ns = now_ns
            if self._stored and now_ns - self._stored_ns > TRUST_NS:
                self._doubt()
            looked = look.withhold is None or look.withhold_key == self._key != ""
            # A pack from before the secrets were known may hold one: only what is in BLOBS already
            # is used again.
            places = self._places if looked else self._in_blobs()
            writer = PackWriter(self.packs, places, self.pending)
            window = MAPPED_WINDOW_NS if look.running else CTIME_WINDOW_NS
            scanner = Scanner(
                writer,
                look.limits,
                known=self._known if looked else None,
                settled_ns=now_ns - window,
                withhold=look.withhold,
                longest=look.withhold_longest,
            )
            try:
                scan = scanner.scan(workspace)
                writer.flush()
            except OverLimit as over:
                writer.discard()
                return over.problem
            except NoRoom as full:
                writer.discard()
                return Problem("no_room", f"the local store cannot take the snapshot: {full}")
            key = "" if look.withhold is None else look.withhold_key
            self._key, self._known, self._places = key, scan.known, writer.places
            self.pending |= writer.made
            return Captured(tenant, room, key, scan, writer.places)

    def _in_blobs(self) -> Places:
        return {
            digest: pieces
            for digest, pieces in self._places.items()
            if all(piece.pack in self._stored for piece in pieces)
        }

    def draft(self, captured: Captured) -> Draft:
        """Its manifest; a shard with the entries of the last stored one is not made again."""
        made: dict[bytes, tuple[list[Entry], Shard]] = {}
        fresh: dict[str, bytes] = {}
        for entries in cut(known.entry for known in captured.scan.known.values()):
            first = entries[0].path
            before = self._shards.get(first)
            if before is not None and before[0] == entries:
                made[first] = before
                continue
            blob, shard = encode_shard(entries, captured.places)
            made[first] = (entries, shard)
            if shard.digest not in self._stored_shards:
                fresh[shard.digest] = blob
        shards = [shard for _, shard in made.values()]
        counts = {
            "files": captured.scan.files,
            "bytes": captured.scan.bytes,
            "skipped": captured.scan.skipped,
            "withheld": captured.scan.withheld,
        }
        digests = {known.entry.digest for known in captured.scan.known.values()} - {""}
        places = {digest: captured.places[digest] for digest in digests}
        packs = _packs_of(places) - self._stored
        root = encode_root(shards, counts)
        return Draft(root, tree_digest(shards), made, fresh, packs, places)

    def published(self, captured: Captured, draft: Draft, new_bytes: int) -> None:
        """All of it is in BLOBS: remember that, and let go of its packs."""
        self._shards = draft.shards
        self._stored_shards = frozenset(shard.digest for _, shard in draft.shards.values())
        self._unsaved = Index(captured.key, captured.scan.known, draft.places, self._stored_shards)
        self._unsaved_bytes += new_bytes
        if self._unsaved_bytes > INDEX_LAG_BYTES:
            self.save()
        with self._one_at_a_time:
            packs = _packs_of(draft.places)
            newest = captured.scan.known is self._known
            self._stored = packs if newest else self._stored | packs
            self._stored_ns = self._captured_ns
            if newest:
                self._places = draft.places
            for pack in list(self.pending) if newest else packs & self.pending.keys():
                del self.pending[pack]
                (self.packs / pack).unlink(missing_ok=True)

    def save(self) -> None:
        """Write the index, if there is anything new in it; without it the next life reads more."""
        if self._unsaved is None:
            return
        try:
            index_file.save(self._index, self._unsaved)
            os.utime(self._index, ns=(self._stored_ns, self._stored_ns))
        except OSError as error:
            logger.warning("the snapshot index %s is not kept: %s", self._index, error)
        self._unsaved, self._unsaved_bytes = None, 0

    def forget(self) -> None:
        """Nothing is known any more: the next capture reads everything."""
        with self._one_at_a_time:
            self._known, self._places, self._shards = {}, {}, {}
            for pack in self.pending:
                (self.packs / pack).unlink(missing_ok=True)
            self.pending.clear()

    def _doubt(self) -> None:
        """What was stored long ago may have been collected, if no event came to name it."""
        self._known, self._places, self._shards = {}, {}, {}
        self._stored, self._stored_shards = set[str](), frozenset[str]()

    def learn(self, manifest: Manifest, now_ns: int) -> None:
        """The workspace was made to be this snapshot, all of which is in BLOBS."""
        with self._one_at_a_time:
            self._stored_ns = now_ns
            before = self._known
            self._known = {
                path: known
                if (known := before.get(path)) is not None and known.entry == entry
                else Known(None, entry)
                for path, entry in manifest.tree.items()
            }
            self._places = manifest.places
            self._stored |= _packs_of(manifest.places)
            self._shards = {}

    def drop(self) -> None:
        """The room is no more, and nothing of it is to be kept here."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _packs_of(places: Places) -> set[str]:
    return {piece.pack for pieces in places.values() for piece in pieces}
