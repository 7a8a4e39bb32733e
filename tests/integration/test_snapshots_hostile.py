"""Manifests that somebody made, through a whole restore: nothing is written, nothing outside."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from domain.errors import IntegrityViolated
from domain.sandbox import SandboxLimits
from services.sandbox.snapshots.restore import load, read
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.workspace import Workspace
from tests.support.trees import blobs_of, memory_server, picture

pytestmark = pytest.mark.anyio

CONTENT = b"content"
PACK = hashlib.sha256(CONTENT).hexdigest()


class Forge:
    """BLOBS with a manifest that says whatever it is told."""

    def __init__(self) -> None:
        self.server = memory_server()
        self.blobs = blobs_of(self.server)

    async def snapshot(self, rows: list[Any], at: list[Any], **root: Any) -> str:
        await self.blobs.put("acme", CONTENT)
        shard = orjson.dumps({"format": 1, "packs": [PACK], "at": at, "tree": rows})
        digest = await self.blobs.put("acme", shard)
        rows_digest = hashlib.sha256(orjson.dumps(rows)).hexdigest()
        head = {
            "kind": "peritus.workspace",
            "format": 1,
            "tree": hashlib.sha256(rows_digest.encode()).hexdigest(),
            "files": 1,
            "bytes": 7,
            "skipped": 0,
            "withheld": 0,
            "shards": [[digest, rows_digest, len(rows)]],
        }
        return await self.blobs.put("acme", orjson.dumps(head | root))


def file(path: str, size: int = 7, digest: str = PACK, mode: int = 0o644) -> list[Any]:
    return ["f", path, mode, size, digest]


WHOLE = [[0, 0, 7]]

ATTACKS: dict[str, Callable[[], tuple[list[Any], list[Any]]]] = {
    "parent": lambda: ([file("../escaped")], WHOLE),
    "parent inside": lambda: ([["d", "a", 493], file("a/../../escaped")], WHOLE),
    "absolute": lambda: ([file("/outside/escaped")], WHOLE),
    "through a link": lambda: ([["l", "a", "../outside"], file("a/escaped")], WHOLE),
    "twice": lambda: ([["l", "a", "../outside"], file("a")], WHOLE),
    "state folder": lambda: ([["d", ".peritus", 493], file(".peritus/journal")], WHOLE),
    "set uid": lambda: ([file("a", mode=0o4755)], WHOLE),
    "no parent": lambda: ([file("a/b")], WHOLE),
    "other content": lambda: ([file("a", digest="0" * 64)], WHOLE),
    "past the pack": lambda: ([file("a")], [[0, 3, 7]]),
    "less than it says": lambda: ([file("a", size=8)], WHOLE),
    "too much": lambda: ([file("a", size=2**40)], [[0, 0, 7] * 10]),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_c10_a_hostile_manifest_is_refused(
    attack: Callable[[], tuple[list[Any], list[Any]]], tmp_path: Path
) -> None:
    forge = Forge()
    root = await forge.snapshot(*attack())
    (tmp_path / "w").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    with Workspace(tmp_path / "w") as workspace:
        store = SnapshotStore(tmp_path / "store", forge.blobs)
        with pytest.raises(IntegrityViolated):
            await store.restore("acme", "job", root, workspace)
    assert picture(tmp_path / "w") == {}
    assert list((tmp_path / "w/.peritus").iterdir()) == []
    assert not (tmp_path / "escaped").exists()
    assert picture(outside) == {}


async def test_the_forge_can_make_a_good_one(tmp_path: Path) -> None:
    forge = Forge()
    root = await forge.snapshot([file("a")], WHOLE)
    (tmp_path / "w").mkdir()
    with Workspace(tmp_path / "w") as workspace:
        store = SnapshotStore(tmp_path / "store", forge.blobs)
        done = await store.restore("acme", "job", root, workspace)
    assert (done.files, done.bytes) == (1, 7)
    assert (tmp_path / "w/a").read_bytes() == CONTENT


async def test_a_count_beyond_the_limits_is_refused_before_anything_is_fetched() -> None:
    forge = Forge()
    shard = ["a" * 64, "b" * 64, 1024]
    root = await forge.snapshot([], [], shards=[shard] * 1000)
    with pytest.raises(IntegrityViolated, match="more than"):
        await load(forge.blobs, "acme", root, SandboxLimits(workspace_files=500_000))


async def test_shards_in_another_order_are_refused() -> None:
    forge = Forge()
    root = await forge.snapshot([file("a")], WHOLE, tree="0" * 64)
    with pytest.raises(IntegrityViolated):
        await load(forge.blobs, "acme", root)


async def test_one_file_is_read_without_the_others() -> None:
    forge = Forge()
    manifest = await load(forge.blobs, "acme", await forge.snapshot([file("a")], WHOLE))
    assert await read(forge.blobs, "acme", manifest, b"a", 100) == CONTENT
    assert await read(forge.blobs, "acme", manifest, b"a", 3) == CONTENT[:3]
    assert await read(forge.blobs, "acme", manifest, b"b", 3) is None
