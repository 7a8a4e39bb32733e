"""What a worker remembers of a room's last stored snapshot, in one file. Losing it costs time only.

Written after everything it speaks of is in BLOBS, so it never promises what is not there, though it
may be some snapshots old. The file is JSON: {"format": 1, "key": ..., "shards": [digest, ...],
"rows": [...], "stamps": [...], "packs": [digest, ...], "places": {digest: [pack, offset, length,
...]}}; `rows` as in a manifest, `stamps` beside them.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from services.sandbox.snapshots.format import entry_of, row_of
from services.sandbox.snapshots.scan import Known
from services.sandbox.snapshots.tree import Piece, Places

logger = logging.getLogger(__name__)

FORMAT = 1


@dataclass(slots=True)
class Index:
    """The last stored snapshot: entries with their stamps, places of content, known shards."""

    key: str = ""  # which secrets its content was looked at for
    known: dict[bytes, Known] = field(default_factory=dict[bytes, Known])
    places: Places = field(default_factory=dict[str, tuple[Piece, ...]])
    shards: frozenset[str] = frozenset()


def save(path: Path, index: Index) -> None:
    """Put the index in place at once.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    packs: dict[str, int] = {}
    places: dict[str, list[int]] = {}
    for digest, pieces in index.places.items():
        flat: list[int] = []
        for pack, offset, length in pieces:
            flat += (packs.setdefault(pack, len(packs)), offset, length)
        places[digest] = flat
    data = orjson.dumps(
        {
            "format": FORMAT,
            "key": index.key,
            "shards": sorted(index.shards),
            "rows": [row_of(known.entry) for known in index.known.values()],
            "stamps": [known.stamp for known in index.known.values()],
            "packs": list(packs),
            "places": places,
        }
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)  # noqa: PTH105 - one name for one system call


def load(path: Path) -> Index:
    """The index of a file; an empty one when there is none, or none that can be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Index()
    try:
        return _read(orjson.loads(data))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        logger.warning("the snapshot index %s is of no use and begun anew: %s", path, error)
        return Index()


def _read(found: dict[str, Any]) -> Index:
    if found["format"] != FORMAT:
        msg = f"format {found['format']}"
        raise ValueError(msg)
    packs: list[str] = found["packs"]
    known: dict[bytes, Known] = {}
    for row, stamp in zip(found["rows"], found["stamps"], strict=True):
        entry = entry_of(row)
        known[entry.path] = Known(None if stamp is None else _stamp(stamp), entry)
    places = {
        digest: tuple(
            Piece(packs[flat[at]], flat[at + 1], flat[at + 2]) for at in range(0, len(flat), 3)
        )
        for digest, flat in found["places"].items()
    }
    return Index(found["key"], known, places, frozenset(found["shards"]))


def _stamp(numbers: list[int]) -> tuple[int, int, int, int]:
    inode, size, mtime_ns, ctime_ns = numbers
    return inode, size, mtime_ns, ctime_ns
