"""The permissions of docs/deploy on a real server: only retention removes for good."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.embedded.config import find_binary
from eventlog.jetstream.backbone import Timing, connect_backbone
from eventlog.port import Backbone

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

ROLES = Path(__file__).parents[2] / "docs" / "deploy" / "nats-roles.conf"
ROOT = RunRef("acme", "j1", "j1")
BOUND_S = 20


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[str]:
    """The address of a server with those users."""
    config = folder / "nats.conf"
    head = f'listen: "127.0.0.1:-1"\njetstream {{ store_dir: "{folder}/js" }}\n'
    config.write_text(f'{head}ports_file_dir: "{folder}"\n{ROLES.read_text()}')
    words = {"WORKER_PASSWORD": "worker-password", "RETENTION_PASSWORD": "retention-password"}
    process = await asyncio.create_subprocess_exec(
        str(find_binary()), "-c", str(config), "-l", str(folder / "log"), env=os.environ | words
    )
    ports = folder / f"nats-server_{process.pid}.ports"
    try:
        async with asyncio.timeout(BOUND_S):
            while not (ports.exists() and ports.stat().st_size):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield orjson.loads(ports.read_bytes())["nats"][0].removeprefix("nats://")
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def user(name: str, address: str) -> AsyncGenerator[Backbone]:
    url = f"nats://{name}:{name}-password@{address}"
    async with connect_backbone(url, durability="process", timing=Timing(request_s=0.5)) as ports:
        yield ports


async def test_only_the_role_of_retention_removes(tmp_path: Path) -> None:
    async with server(tmp_path) as address, user("worker", address) as worker:
        seq = await worker.log.append(ROOT, b"1", expected_seq=0)
        last = await worker.log.append(ROOT, b"2", expected_seq=seq)
        digest = await worker.blobs.put("acme", b"content")
        await worker.snapshots.put(ROOT, b"folded")
        await worker.open_runs.add(ROOT)
        await worker.open_runs.remove(ROOT)  # ordinary work
        await worker.dead.put(ROOT, b"letter", "why")
        await worker.dead.remove((await worker.dead.list(1))[0].seq)
        await worker.registry.put("key", "acme", "k", b"", expected=0)
        await worker.registry.remove("key", "acme", "k")
        blob = await worker.retention.blob("acme", digest)
        assert blob is not None
        with pytest.raises(Unavailable):
            await worker.retention.purge(ROOT, before_seq=last)
        with pytest.raises(Unavailable):
            await worker.retention.forget("acme", "j1")
        with pytest.raises(Unavailable):
            await worker.retention.remove_blob(blob)
        assert len(await worker.log.load(ROOT)) == 2
        assert await worker.snapshots.get(ROOT) == b"folded"
        assert await worker.blobs.get("acme", digest) == b"content"
        async with user("retention", address) as retention:
            await retention.retention.purge(ROOT, before_seq=last)
            await retention.retention.forget("acme", "j1")
            await retention.retention.remove_blob(blob)
        assert [one.data for one in await worker.log.load(ROOT)] == [b"2"]
        assert await worker.snapshots.get(ROOT) is None
        assert await worker.retention.blobs() == []
