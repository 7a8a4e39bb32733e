"""A snapshot through a real server, over its death. Not its speed: `make bench` has that."""

import os
import time
from pathlib import Path

import pytest

from services.sandbox.snapshots.local import Captured
from services.sandbox.snapshots.store import SnapshotStore
from services.sandbox.snapshots.tree import PACK_BYTES_MAX
from services.sandbox.workspace import Workspace
from tests.integration.deployment import JetStreamDeployment
from tests.support.trees import File, Folder, Link, picture, plant

pytestmark = [pytest.mark.anyio, pytest.mark.broker]


async def test_a_snapshot_outlives_worker_and_server(
    deployment: JetStreamDeployment, tmp_path: Path
) -> None:
    for name in ("w", "t"):
        (tmp_path / name).mkdir()
    plant(
        tmp_path / "w",
        {
            b"big": File(os.urandom(2 * PACK_BYTES_MAX)),
            b"many": Folder({b"f%d" % n: File(os.urandom(4000)) for n in range(500)}),
            b"link": Link(b"big"),
            b"empty": Folder({}, 0o700),
        },
    )
    with Workspace(tmp_path / "w") as workspace, Workspace(tmp_path / "t") as target:
        async with deployment.client() as ports:
            store = SnapshotStore(
                tmp_path / "store", ports.blobs, now_ns=lambda: time.time_ns() + 10**10
            )
            captured = await store.capture("acme", "job", workspace)
            assert isinstance(captured, Captured)
            ref = await store.publish(captured)
            assert ref.new_bytes > ref.bytes
        await deployment.restart()
        async with deployment.client() as ports:
            elsewhere = SnapshotStore(tmp_path / "elsewhere", ports.blobs)
            await elsewhere.restore("acme", "job", ref.root, target)
    assert picture(tmp_path / "t") == picture(tmp_path / "w")
