"""The bytes of a manifest, which are for ever, and what is refused of hostile ones."""

import hashlib
from itertools import chain
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import IntegrityViolated
from domain.sandbox import SandboxLimits
from services.sandbox.snapshots.check import check_places, checked_tree
from services.sandbox.snapshots.format import (
    SHARD_ROWS_MAX,
    SHARD_ROWS_MIN,
    cut,
    decode_root,
    decode_shard,
    encode_root,
    encode_shard,
    entry_of,
    row_of,
    tree_digest,
)
from services.sandbox.snapshots.tree import PACK_BYTES_MAX, Entry, Piece

PACK = "ab" * 32
ONE = hashlib.sha256(b"1").hexdigest()
ENTRIES = [
    Entry(b"a", "folder", 0o755),
    Entry(b"a/e", "file", 0o600, 7, missing="withheld: KEY"),
    Entry(b"a/\xff", "file", 0o644, 1, ONE),
    Entry(b"l", "link", target=b"../x"),
]
PLACES = {ONE: (Piece(PACK, 5, 1),)}
LIMITS = SandboxLimits(workspace_files=10, workspace_bytes=100)


def test_the_bytes_of_format_1_never_change() -> None:
    blob, shard = encode_shard(ENTRIES, PLACES)
    rows = (
        b'[["d","a",493],["f","a/e",384,7,null,"withheld: KEY"],'
        b'["f",{"hex":"612fff"},420,1,"' + ONE.encode() + b'"],["l","l","../x"]]'
    )
    assert blob == (
        b'{"format":1,"packs":["' + PACK.encode() + b'"],"at":[[0,5,1]],"tree":' + rows + b"}"
    )
    assert shard.rows_digest == hashlib.sha256(rows).hexdigest()
    root = encode_root([shard], {"files": 2, "bytes": 1, "skipped": 0, "withheld": 1})
    tree = hashlib.sha256(shard.rows_digest.encode()).hexdigest()
    assert (
        root
        == (
            f'{{"kind":"peritus.workspace","format":1,"tree":"{tree}","files":2,"bytes":1,'
            f'"skipped":0,"withheld":1,"shards":[["{shard.digest}","{shard.rows_digest}",4]]}}'
        ).encode()
    )


def test_what_is_written_is_read() -> None:
    blob, shard = encode_shard(ENTRIES, PLACES)
    root = encode_root([shard], {"files": 2, "bytes": 1, "skipped": 0, "withheld": 1})
    head = decode_root(root)
    assert head.shards == [shard]
    assert head.tree == tree_digest([shard])
    assert decode_shard(blob, shard) == (ENTRIES, PLACES)


NAMES = st.binary(min_size=1, max_size=30)


PLAIN = {"target": st.just(b""), "missing": st.just("")}
MODES = st.integers(0, 0o777)
SIZES = st.integers(0, 2**63 - 1)


@given(
    st.one_of(
        st.builds(Entry, NAMES, st.just("folder"), MODES, st.just(0), st.just(""), **PLAIN),
        st.builds(Entry, NAMES, st.just("file"), MODES, SIZES, st.just(ONE), **PLAIN),
        NAMES.map(lambda name: Entry(name, "link", target=name[::-1])),
    )
)
def test_every_entry_is_a_row(entry: Entry) -> None:
    assert entry_of(orjson.loads(orjson.dumps(row_of(entry)))) == entry


def test_a_shard_changes_with_its_own_paths_only() -> None:
    entries = [Entry(b"%06d" % number, "folder", 0o755) for number in range(20_000)]
    shards = list(cut(entries))
    assert list(chain.from_iterable(shards)) == entries
    assert all(SHARD_ROWS_MIN <= len(shard) <= SHARD_ROWS_MAX for shard in shards[:-1])
    assert 30 < len(shards) < 150
    changed = [*entries[:10_000], Entry(b"009999x", "folder", 0o755), *entries[10_000:]]
    others = list(cut(changed))
    assert sum(shard not in shards for shard in others) <= 5


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind":"peritus.workspace","format":2}',
        b'{"kind":"peritus.workspace","format":1,"tree":"","files":1,"bytes":1,"skipped":0,'
        b'"withheld":0,"shards":[["../x","","1"]]}',
        b'{"kind":"peritus.workspace","format":1,"tree":"","files":1,"bytes":1,"skipped":0,'
        b'"withheld":0,"shards":[["' + b">" * 64 + b'","' + b"a" * 64 + b'",1]]}',
        b'{"kind":"peritus.workspace","format":1,"tree":"","files":1,"bytes":1,"skipped":0,'
        b'"withheld":0,"shards":[["' + b"a" * 64 + b'","' + b"a" * 64 + b'",99999999]]}',
    ],
)
def test_a_root_that_is_none_is_refused(blob: bytes) -> None:
    with pytest.raises(IntegrityViolated):
        decode_root(blob)


def shard_of(rows: Any, at: Any, packs: Any) -> None:
    """Read a shard somebody made, with digests that fit."""
    _, shard = encode_shard([], {})
    digest = hashlib.sha256(orjson.dumps(rows)).hexdigest()
    count = len(list(rows))
    blob = orjson.dumps({"format": 1, "packs": packs, "at": at, "tree": rows})
    decode_shard(blob, shard._replace(rows_digest=digest, rows=count))


FILE = ["f", "a", 420, 1, ONE]


@pytest.mark.parametrize(
    ("rows", "at", "packs"),
    [
        ([FILE], [[0, 0, 1]], ["../../etc"]),
        ([FILE], [[0, 0, 1]], [7]),
        ([FILE], [[1, 0, 1]], [PACK]),
        ([FILE], [[0, -1, 1]], [PACK]),
        ([FILE], [[0, 0]], [PACK]),
        ([FILE], [[0, 0, True]], [PACK]),
        ([FILE], ["abc"], [PACK]),
        ([FILE], [], [PACK]),
        ([FILE], [[0, 0, 1], [0, 0, 1]], [PACK]),
        ([["x", "a"]], [], []),
        ([["d", 7, 7]], [], []),
        ([["d", {"hex": "zz"}, 7]], [], []),
        ([["d", {"hex": "61", "b": 1}, 7]], [], []),
        ([["d", "a", "7"]], [], []),
        ("rows", [], []),
    ],
)
def test_a_shard_that_is_none_is_refused(rows: Any, at: Any, packs: Any) -> None:
    with pytest.raises(IntegrityViolated):
        shard_of(rows, at, packs)


def test_another_shard_in_its_place_is_refused() -> None:
    blob, shard = encode_shard(ENTRIES, PLACES)
    with pytest.raises(IntegrityViolated):
        decode_shard(blob, shard._replace(rows_digest=ONE))
    with pytest.raises(IntegrityViolated):
        decode_shard(blob, shard._replace(rows=3))


def folder(path: bytes) -> Entry:
    return Entry(path, "folder", 0o755)


@pytest.mark.parametrize(
    "entries",
    [
        [folder(b"")],
        [folder(b".")],
        [folder(b"..")],
        [folder(b"/etc")],
        [folder(b"a"), folder(b"a/..")],
        [folder(b"a"), folder(b"a//b")],
        [folder(b"a/")],
        [folder(b"a\0b")],
        [folder(b"a" * 256)],
        [folder(b"a"), folder(b"a")],
        [folder(b"b"), folder(b"a")],
        [folder(b"a"), folder(b"a.b"), folder(b"a/c")],
        [folder(b"a/b")],
        [Entry(b"a", "link", target=b"/etc"), Entry(b"a/passwd", "file", 0o644, 1, ONE)],
        [Entry(b"a", "file", 0o644, 1, ONE), folder(b"a/b")],
        [folder(b".peritus")],
        [folder(b".Peritus")],
        [Entry(b"a", "folder", 0o4755)],
        [Entry(b"a", "folder", -1)],
        [Entry(b"a", "file", 0o644, -1, ONE)],
        [Entry(b"a", "file", 0o644, 101, ONE)],
        [Entry(b"a", "link", target=b"")],
        [Entry(b"a", "link", target=b"a\0b")],
        [Entry(b"a", "link", target=b"a" * 4096)],
        [folder(b"%02d" % number) for number in range(11)],
        [folder(b"/".join([b"d"] * depth)) for depth in range(1, 300)],
    ],
)
def test_entries_that_lead_out_or_cannot_be_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(IntegrityViolated):
        checked_tree(entries, LIMITS)


def test_entries_that_can_be_are_not_refused() -> None:
    tree = checked_tree([*ENTRIES, folder(b"sub"), folder(b"sub/.peritus")], LIMITS)
    assert len(tree) == 6


@pytest.mark.parametrize(
    "piece",
    [Piece(PACK, 0, 2), Piece(PACK, 0, 0), Piece(PACK, PACK_BYTES_MAX, 1)],
)
def test_pieces_that_cannot_be_are_refused(piece: Piece) -> None:
    entry = Entry(b"a", "file", 0o644, 1, ONE)
    check_places([entry], PLACES)
    with pytest.raises(IntegrityViolated):
        check_places([entry], {ONE: (piece,)})
