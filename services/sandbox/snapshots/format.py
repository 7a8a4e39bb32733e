"""The bytes of a manifest: kept for ever, so every change of them is another format number.

A manifest is one root and its shards, each a blob of JSON (RFC 8259, UTF-8, no white space).

Root: {"kind": "peritus.workspace", "format": 1, "tree": digest, "files": n, "bytes": n,
"skipped": n, "withheld": n, "shards": [[digest of the blob, digest of its rows, rows], ...]}.
All digests are SHA-256 in lower-case hex. `tree` is the digest of the shards' row digests, joined:
it is the same for equal trees, while the blobs also say in which packs the content is.

Shard: {"format": 1, "packs": [digest, ...], "at": [...], "tree": [row, ...]}. A row is one of
    ["d", path, mode]                       a folder
    ["d", path, mode, why]                  a folder whose content is missing
    ["f", path, mode, size, digest]         a file
    ["f", path, mode, size, null, why]      a file whose content is missing
    ["l", path, target]                     a symbolic link
Paths and targets are strings, or {"hex": "..."} when they are not UTF-8. Rows are in walk order
over all shards (paths compared with "/" as the lowest byte), a folder before what it holds.
`at` has, for each file row with content, a flat list of (index in `packs`, offset, length): the
pieces of the content in order. A pack is a blob of plain content, nothing else.

Where a shard ends depends on paths alone (`cut`), so a changed file changes one shard.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from domain.errors import IntegrityViolated
from services.sandbox.snapshots.tree import Entry, Piece, Places

FORMAT = 1
KIND = "peritus.workspace"

DIGEST = re.compile(r"[0-9a-f]{64}")

SHARD_ROWS_MIN = 64
SHARD_ROWS_MAX = 1024
CUT_MASK = 0xFF
"""A shard ends after a path whose CRC-32 has none of these bits: 320 rows on average."""


class Shard(NamedTuple):
    """One shard as the root lists it."""

    digest: str
    rows_digest: str
    rows: int


def cut(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in walk order, by shard."""
    shard: list[Entry] = []
    for entry in entries:
        shard.append(entry)
        size = len(shard)
        ends = size >= SHARD_ROWS_MIN and not zlib.crc32(entry.path) & CUT_MASK
        if ends or size >= SHARD_ROWS_MAX:
            yield shard
            shard = []
    if shard:
        yield shard


def encode_shard(entries: list[Entry], places: Places) -> tuple[bytes, Shard]:
    """The blob of some entries and what the root says of it."""
    rows = orjson.dumps([row_of(entry) for entry in entries])
    packs: dict[str, int] = {}
    at: list[list[int]] = []
    for entry in entries:
        if entry.kind == "file" and not entry.missing:
            flat: list[int] = []
            for pack, offset, length in places[entry.digest]:
                flat += (packs.setdefault(pack, len(packs)), offset, length)
            at.append(flat)
    blob = orjson.dumps(
        {"format": FORMAT, "packs": list(packs), "at": at, "tree": orjson.Fragment(rows)}
    )
    return blob, Shard(_digest(blob), _digest(rows), len(entries))


def tree_digest(shards: Iterable[Shard]) -> str:
    """What is equal for equal trees."""
    return _digest("".join(shard.rows_digest for shard in shards).encode())


def encode_root(shards: list[Shard], counts: dict[str, int]) -> bytes:
    """The root: `counts` are files, bytes, skipped and withheld, in this order."""
    head = {"kind": KIND, "format": FORMAT, "tree": tree_digest(shards)}
    return orjson.dumps(head | counts | {"shards": [list(shard) for shard in shards]})


def row_of(entry: Entry) -> list[Any]:
    """An entry as a row."""
    path = _text(entry.path)
    if entry.kind == "link":
        return ["l", path, _text(entry.target)]
    missing = [entry.missing] if entry.missing else []
    if entry.kind == "folder":
        return ["d", path, entry.mode, *missing]
    return ["f", path, entry.mode, entry.size, entry.digest or None, *missing]


def entry_of(row: Any) -> Entry:  # noqa: ANN401 - any JSON: this is where it is looked at
    """The entry of a row; what it says is not checked against other rows.

    Raises:
        ValueError: it is not a row.
    """
    match row:
        case ["d", path, int(mode)]:
            return Entry(_bytes(path), "folder", mode)
        case ["d", path, int(mode), str(why)] if why:
            return Entry(_bytes(path), "folder", mode, missing=why)
        case ["f", path, int(mode), int(size), str(digest)]:
            return Entry(_bytes(path), "file", mode, size, digest)
        case ["f", path, int(mode), int(size), None, str(why)] if why:
            return Entry(_bytes(path), "file", mode, size, missing=why)
        case ["l", path, target]:
            return Entry(_bytes(path), "link", target=_bytes(target))
        case _:
            msg = f"not a row: {str(row)[:100]}"
            raise ValueError(msg)


class Root(NamedTuple):
    """A root as it was read: numbers and digests that are not checked against anything yet."""

    tree: str
    files: int
    bytes: int
    skipped: int
    withheld: int
    shards: list[Shard]


def decode_root(data: bytes) -> Root:
    """What a root says.

    Raises:
        IntegrityViolated: it is not a root of this format.
    """
    match _json(data):
        case {
            "kind": "peritus.workspace",
            "format": 1,
            "tree": str(tree),
            "files": int(files),
            "bytes": int(size),
            "skipped": int(skipped),
            "withheld": int(withheld),
            "shards": [*listed],
        }:
            shards = [_shard_of(one) for one in listed]
            return Root(tree, files, size, skipped, withheld, shards)
        case {"kind": "peritus.workspace", "format": int(number)} if number != FORMAT:
            msg = f"the snapshot has format {number}; this version reads {FORMAT}"
            raise IntegrityViolated(msg)
        case _:
            msg = "the blob is not the manifest of a workspace"
            raise IntegrityViolated(msg)


def decode_shard(data: bytes, expected: Shard) -> tuple[list[Entry], dict[str, tuple[Piece, ...]]]:
    """The entries of a shard and where their content is.

    Raises:
        IntegrityViolated: it is not a shard of this format, or not the expected one.
    """
    match _json(data):
        case {"format": 1, "packs": [*packs], "at": [*at], "tree": [*rows]}:
            names = [_hex(pack) for pack in packs]
            listed = rows
        case _:
            msg = "the blob is not a shard of a manifest"
            raise IntegrityViolated(msg)
    if len(listed) != expected.rows or _digest(orjson.dumps(listed)) != expected.rows_digest:
        msg = "a shard of the manifest is not the one its root names"
        raise IntegrityViolated(msg)
    try:
        entries = [entry_of(row) for row in listed]
        held = [entry for entry in entries if entry.kind == "file" and not entry.missing]
        places = {entry.digest: _pieces(flat, names) for entry, flat in zip(held, at, strict=True)}
    except ValueError as error:
        msg = f"a shard of the manifest cannot be read: {error}"
        raise IntegrityViolated(msg) from error
    return entries, places


def _pieces(flat: Any, packs: list[str]) -> tuple[Piece, ...]:  # noqa: ANN401 - any JSON
    match flat:
        case [*numbers] if len(numbers) % 3 == 0:
            pass
        case _:
            msg = "pieces must be triples"
            raise ValueError(msg)
    if not all(type(number) is int and number >= 0 for number in numbers):
        msg = "pieces must be numbers from 0"
        raise ValueError(msg)
    if any(index >= len(packs) for index in numbers[::3]):
        msg = "a piece is in no pack"
        raise ValueError(msg)
    return tuple(
        Piece(packs[index], offset, length)
        for index, offset, length in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    )


def _shard_of(listed: Any) -> Shard:  # noqa: ANN401 - any JSON
    match listed:
        case [str(digest), str(rows_digest), int(rows)] if 0 < rows <= SHARD_ROWS_MAX:
            return Shard(_hex(digest), _hex(rows_digest), rows)
        case _:
            msg = "the manifest lists a shard that cannot be one"
            raise IntegrityViolated(msg)


def _hex(value: Any) -> str:  # noqa: ANN401 - any JSON
    if isinstance(value, str) and DIGEST.fullmatch(value):
        return value
    msg = "the manifest has a digest that is none"
    raise IntegrityViolated(msg)


def _json(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return orjson.loads(data)
    except ValueError as error:
        msg = f"the manifest is not JSON: {error}"
        raise IntegrityViolated(msg) from error


def _text(name: bytes) -> str | dict[str, str]:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return {"hex": name.hex()}


def _bytes(name: Any) -> bytes:  # noqa: ANN401 - any JSON
    match name:
        case str():
            return name.encode()
        case {"hex": str(digits)} if len(name) == 1:
            return bytes.fromhex(digits)
        case _:
            msg = f"not a name: {str(name)[:100]}"
            raise ValueError(msg)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
