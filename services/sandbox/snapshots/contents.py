"""Where the content of files comes from when a workspace is written: BLOBS, or another workspace.

Both deliver parts of files, those of one file in order. Not the writing.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from domain.errors import IntegrityViolated
from eventlog.port import Blobs
from services.sandbox.snapshots.folders import Folders
from services.sandbox.snapshots.scan import OPEN_FLAGS
from services.sandbox.snapshots.spread import spread
from services.sandbox.snapshots.tree import PACK_BYTES_MAX, Entry, Piece, Places, shown

DOWNLOADS_AT_ONCE = 4
FILES_AT_ONCE = 64
"""How many files of another workspace are read before they are written."""


class Part(NamedTuple):
    """Some of a file's content; an empty file has one empty part."""

    entry: Entry
    data: bytes | memoryview
    first: bool
    last: bool


Take = Callable[[Sequence[Part]], Awaitable[None]]


class Contents(Protocol):
    """A source of content."""

    async def deliver(self, entries: Sequence[Entry], take: Take) -> None:
        """Hand over the content of these files.

        Raises:
            Unavailable: the source is away.
            IntegrityViolated: it does not have them.
        """
        ...


class BlobContents:
    """Content out of packs in BLOBS, each of which is fetched once for all small files in it."""

    def __init__(self, blobs: Blobs, tenant: str, places: Places) -> None:
        self._blobs = blobs
        self._tenant = tenant
        self._places = places

    async def deliver(self, entries: Sequence[Entry], take: Take) -> None:
        """Hand over the content of these files, pack by pack.

        Raises:
            Unavailable: BLOBS is away.
            IntegrityViolated: a pack is gone, or is not what was stored.
        """
        empty: list[Part] = []
        small: defaultdict[str, list[tuple[Entry, Piece]]] = defaultdict(list)
        large: list[Entry] = []
        for entry in entries:
            pieces = self._places[entry.digest]
            if len(pieces) > 1:
                large.append(entry)
            elif pieces:
                small[pieces[0].pack].append((entry, pieces[0]))
            else:
                empty.append(Part(entry, b"", first=True, last=True))
        await take(empty)

        async def one_pack(pack: str) -> None:
            data = await self._blobs.get(self._tenant, pack)
            await take([Part(e, piece_of(data, p), first=True, last=True) for e, p in small[pack]])

        async def one_file(entry: Entry) -> None:
            pieces = self._places[entry.digest]
            for number, piece in enumerate(pieces, start=1):
                data = piece_of(await self._blobs.get(self._tenant, piece.pack), piece)
                await take([Part(entry, data, first=number == 1, last=number == len(pieces))])

        await spread(list(small), one_pack, at_once=DOWNLOADS_AT_ONCE)
        await spread(large, one_file, at_once=DOWNLOADS_AT_ONCE)


class FolderContents:
    """Content out of another workspace, by its descriptor."""

    def __init__(self, workspace: int) -> None:
        self._workspace = workspace

    async def deliver(self, entries: Sequence[Entry], take: Take) -> None:
        """Hand over the content of these files as it is now.

        Raises:
            IntegrityViolated: one is not there any more, or is no file.
        """
        with Folders(self._workspace) as folders:
            parts = (part for entry in entries for part in _parts(folders, entry))
            while batch := await asyncio.to_thread(_batch, parts):
                await take(batch)


def _batch(parts: Iterator[Part]) -> list[Part]:
    """The next few parts: about a pack."""
    batch: list[Part] = []
    size = 0
    for part in islice(parts, FILES_AT_ONCE):
        batch.append(part)
        size += len(part.data)
        if size >= PACK_BYTES_MAX:
            break
    return batch


def _parts(folders: Folders, entry: Entry) -> Iterator[Part]:
    try:
        parent, name = folders.where(entry.path)
        file = os.open(name, OPEN_FLAGS, dir_fd=parent)
    except OSError as error:
        raise _gone(entry) from error
    try:
        first, data = True, _read(file, entry)
        while True:
            after = _read(file, entry) if data else b""
            yield Part(entry, data, first=first, last=not after)
            if not after:
                return
            first, data = False, after
    finally:
        os.close(file)


def _read(file: int, entry: Entry) -> bytes:
    try:
        return os.read(file, PACK_BYTES_MAX)
    except OSError as error:
        raise _gone(entry) from error


def piece_of(pack: bytes, piece: Piece) -> memoryview:
    """The bytes of a piece.

    Raises:
        IntegrityViolated: the pack ends before it does.
    """
    part = memoryview(pack)[piece.offset : piece.offset + piece.length]
    if len(part) != piece.length:
        msg = f"pack {piece.pack!r} is shorter than the snapshot says"
        raise IntegrityViolated(msg)
    return part


def _gone(entry: Entry) -> IntegrityViolated:
    return IntegrityViolated(f"the content of {shown(entry.path)!r} is not there any more")
