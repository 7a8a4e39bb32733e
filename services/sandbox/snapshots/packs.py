"""The local store: content on its way to BLOBS, packed into files. Not a record of anything.

A pack is the plain concatenation of contents, at most PACK_BYTES_MAX; its file is named by its
SHA-256. A file larger than a pack has packs of its own. Packs are not synced: after a crash they
are thrown away, and what they held is read from the workspace again.
"""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from services.sandbox.snapshots.tree import PACK_BYTES_MAX, Piece, Places


class NoRoom(Exception):
    """The local store cannot take more."""


class Sink(Protocol):
    """What becomes of content that a scan reads."""

    def small(self, data: memoryview) -> str:
        """Take a whole file of at most PACK_BYTES_MAX, which is only lent; its digest."""
        ...

    def large(self, chunks: Iterator[bytes]) -> str:
        """Take a file in chunks of at most PACK_BYTES_MAX; its digest."""
        ...


class OnlyDigests:
    """A sink that keeps nothing."""

    def small(self, data: memoryview) -> str:
        """The digest."""
        return hashlib.sha256(data).hexdigest()

    def large(self, chunks: Iterator[bytes]) -> str:
        """The digest."""
        whole = hashlib.sha256()
        for chunk in chunks:
            whole.update(chunk)
        return whole.hexdigest()


class PackWriter:
    """A sink that writes what is not stored yet into packs.

    `places` says where each content is, `made` how large each new pack is; `kept` are the packs
    that lie in the folder already.
    """

    def __init__(self, folder: Path, stored: Places, kept: Collection[str] = ()) -> None:
        self.places: dict[str, tuple[Piece, ...]] = dict(stored)
        self.made: dict[str, int] = {}
        self._folder = folder
        self._kept = kept
        self._open = memoryview(bytearray(PACK_BYTES_MAX))
        self._size = 0
        self._waiting: dict[str, tuple[int, int]] = {}  # offset and length in the open pack

    def small(self, data: memoryview) -> str:
        """Put a whole file into the open pack, unless its content is stored already.

        Raises:
            NoRoom: the local store is full.
        """
        digest = hashlib.sha256(data).hexdigest()
        if digest in self.places or digest in self._waiting:
            return digest
        if not data:
            self.places[digest] = ()
            return digest
        if self._size + len(data) > PACK_BYTES_MAX:
            self.flush()
        self._waiting[digest] = (self._size, len(data))
        self._open[self._size : self._size + len(data)] = data
        self._size += len(data)
        return digest

    def large(self, chunks: Iterator[bytes]) -> str:
        """Give each chunk a pack of its own; nothing is left of a file that fails half way.

        Raises:
            NoRoom: the local store is full.
        """
        whole = hashlib.sha256()
        pieces: list[Piece] = []
        fresh: list[str] = []
        try:
            for chunk in chunks:
                whole.update(chunk)
                pack = self._write(chunk, fresh)
                pieces.append(Piece(pack, 0, len(chunk)))
        except BaseException:
            self._drop(fresh)
            raise
        digest = whole.hexdigest()
        if digest in self.places:
            self._drop(fresh)
        else:
            self.places[digest] = tuple(pieces)
        return digest

    def flush(self) -> None:
        """Write the open pack.

        Raises:
            NoRoom: the local store is full.
        """
        if not self._size:
            return
        pack = self._write(self._open[: self._size], [])
        for digest, (offset, length) in self._waiting.items():
            self.places[digest] = (Piece(pack, offset, length),)
        self._size, self._waiting = 0, {}

    def discard(self) -> None:
        """Remove every pack that was made."""
        self._drop(list(self.made))

    def _write(self, data: bytes | memoryview, fresh: list[str]) -> str:
        name = hashlib.sha256(data).hexdigest()
        if name not in self.made and name not in self._kept:
            try:
                (self._folder / name).write_bytes(data)
            except OSError as error:
                raise NoRoom(error.strerror) from error
            self.made[name] = len(data)
            fresh.append(name)
        return name

    def _drop(self, packs: list[str]) -> None:
        for pack in packs:
            del self.made[pack]
            (self._folder / pack).unlink(missing_ok=True)
