"""One state folder, one server: joined, shared, orphaned, killed and left, by real processes."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.embedded import EmbeddedServer, join_state_folder
from eventlog.embedded.config import ServerConfig, free_port
from eventlog.embedded.probe import answers
from eventlog.embedded.process import Process, start_of
from eventlog.embedded.server import StoreInUse, start_somewhere
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.durability import Durability, DurabilityTooWeak

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

RUN = RunRef("acme", "job", "run")
ROOT = Path(__file__).parents[2]
BOUND_S = 30.0


@dataclass
class MemberProcess:
    """A process that has joined a folder, and what it was told."""

    child: asyncio.subprocess.Process
    endpoint: dict[str, Any]

    async def leave(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        await self.ended()

    async def kill(self) -> None:
        self.child.kill()
        await self.ended()

    async def ended(self) -> None:
        async with asyncio.timeout(BOUND_S):
            await self.child.wait()


@asynccontextmanager
async def member(folder: Path, durability: str = "process") -> AsyncGenerator[MemberProcess]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.member",
        str(folder),
        durability,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(BOUND_S):
            line = await child.stdout.readline()
        yield MemberProcess(child, json.loads(line))
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncGenerator[Path]:
    """A state folder; whatever server is left in it at the end of the test is stopped."""
    made = tmp_path / "state"
    yield made
    endpoint = made / "endpoint.json"
    if endpoint.exists():
        await server_of(made).stop()


def server_of(folder: Path) -> Process:
    found = json.loads((folder / "endpoint.json").read_text())
    return Process(found["pid"], found["started"])


async def gone(process: Process) -> None:
    async with asyncio.timeout(BOUND_S):
        await process.ended()


async def server_other_than(old: Process, folder: Path) -> Process:
    async with asyncio.timeout(BOUND_S):
        while (new := server_of(folder)) == old:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.02)
    return new


async def test_the_first_to_join_is_alone_with_a_server_of_its_own(folder: Path) -> None:
    async with (
        join_state_folder(folder, "process") as endpoint,
        connect_backbone(endpoint.url, token=endpoint.token, durability="process") as backbone,
    ):
        assert endpoint.alone
        assert await backbone.log.append(RUN, b"x", expected_seq=0) == 1
        assert os.getsid(endpoint.pid) == endpoint.pid
    assert start_of(endpoint.pid) is None
    assert not (folder / "endpoint.json").exists()


async def test_what_was_stored_is_there_when_the_folder_is_joined_again(folder: Path) -> None:
    for expected in (0, 1):
        async with (
            join_state_folder(folder, "os") as endpoint,
            connect_backbone(endpoint.url, token=endpoint.token) as backbone,
        ):
            await backbone.log.append(RUN, b"x", expected_seq=expected)


async def test_secrets_are_readable_by_their_owner_alone(folder: Path) -> None:
    async with join_state_folder(folder, "process"):
        for name in ("endpoint.json", "nats/server.conf", "lock", "members.lock"):
            assert (folder / name).stat().st_mode & 0o077 == 0


async def test_a_second_process_joins_and_the_last_one_out_stops_the_server(folder: Path) -> None:
    async with member(folder) as first, member(folder) as second:
        server = server_of(folder)
        assert first.endpoint["alone"]
        assert not second.endpoint["alone"]
        assert second.endpoint["pid"] == first.endpoint["pid"] == server.pid
        await first.leave()
        assert server.alive()
        assert await answers_at(second.endpoint)
        await second.leave()
        await gone(server)
    assert not (folder / "endpoint.json").exists()


async def answers_at(endpoint: dict[str, Any]) -> bool:
    return await answers(int(endpoint["url"].rpartition(":")[2]), endpoint["token"])


async def test_of_many_that_join_at_once_one_is_alone_and_all_share_one_server(
    folder: Path,
) -> None:
    found: list[dict[str, Any]] = []
    everyone = asyncio.Barrier(4)

    async def join() -> None:
        async with member(folder) as joined:
            found.append(joined.endpoint)
            await everyone.wait()
            await joined.leave()

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(join())
    assert len({endpoint["pid"] for endpoint in found}) == 1
    assert [endpoint["alone"] for endpoint in found].count(True) == 1
    assert start_of(found[0]["pid"]) is None


async def test_a_server_that_is_killed_comes_back_at_its_address_and_loses_nothing(
    folder: Path,
) -> None:
    async with (
        join_state_folder(folder, "process") as endpoint,
        connect_backbone(endpoint.url, token=endpoint.token, durability="process") as backbone,
    ):
        seq = await backbone.log.append(RUN, b"1", expected_seq=0)
        old = server_of(folder)
        old.kill()
        await server_other_than(old, folder)
        async with asyncio.timeout(BOUND_S):
            await append_when_back(backbone.log.append, seq)
        assert [stored.data for stored in await backbone.log.load(RUN)] == [b"1", b"2"]


async def append_when_back(append: Any, seq: int) -> None:
    while True:
        try:
            await append(RUN, b"2", expected_seq=seq)
        except Unavailable:
            continue
        return


async def test_when_the_keeper_is_killed_another_member_keeps_the_server(folder: Path) -> None:
    async with member(folder) as keeper, member(folder) as other:
        server = server_of(folder)
        await keeper.kill()
        assert server.alive()
        server.kill()
        new = await server_other_than(server, folder)
        assert await answers_at(other.endpoint)
        await other.leave()
        await gone(new)


async def test_an_orphaned_server_is_adopted_and_not_doubled(folder: Path) -> None:
    async with member(folder) as only:
        await only.kill()
    orphan = server_of(folder)
    assert orphan.alive()
    async with join_state_folder(folder, "process") as endpoint:
        assert endpoint.pid == orphan.pid
        assert endpoint.alone
    await gone(orphan)


async def test_an_orphan_that_no_file_names_is_ended_before_another_is_started(
    folder: Path,
) -> None:
    async with member(folder) as only:
        await only.kill()
    orphan = server_of(folder)
    (folder / "endpoint.json").unlink()
    async with join_state_folder(folder, "process") as endpoint:
        assert endpoint.pid != orphan.pid
        assert not orphan.alive()


async def test_an_endpoint_of_a_process_that_is_another_one_by_now_is_replaced(
    folder: Path,
) -> None:
    async with member(folder) as only:
        await only.kill()
    orphan = server_of(folder)
    await orphan.stop()
    named = json.loads((folder / "endpoint.json").read_text()) | {"pid": os.getpid()}
    (folder / "endpoint.json").write_text(json.dumps(named))
    async with join_state_folder(folder, "process") as endpoint:
        assert endpoint.pid not in (os.getpid(), orphan.pid)
        assert endpoint.url == named["url"]


def garble(folder: Path) -> None:
    folder.mkdir()
    (folder / "endpoint.json").write_text('{"url": ')


async def test_a_garbled_endpoint_is_replaced(folder: Path) -> None:
    garble(folder)
    async with join_state_folder(folder, "process") as endpoint:
        assert server_of(folder).pid == endpoint.pid


async def test_a_folder_that_cannot_be_one_is_unavailable_and_named(tmp_path: Path) -> None:
    taken = tmp_path / "state"
    taken.write_text("a file")

    with pytest.raises(Unavailable, match="state' cannot be used: File exists"):
        async with join_state_folder(taken):
            pass


async def test_a_server_whose_endpoint_cannot_be_written_is_not_left_running(folder: Path) -> None:
    (folder / f"endpoint.json.{os.getpid()}.new").mkdir(parents=True)  # in the way, for root too

    with pytest.raises(Unavailable, match="cannot be used"):
        async with join_state_folder(folder, "process"):
            pass

    async with EmbeddedServer(folder / "nats", durability="process", token="t"):
        pass  # a server that lived there would hold the store


async def test_a_server_that_keeps_too_little_is_refused_while_others_use_it(
    folder: Path,
) -> None:
    async with member(folder, "process") as weak:
        async with member(folder, "os") as strict:
            assert strict.endpoint == {"refused": "DurabilityTooWeak"}
        assert await answers_at(weak.endpoint)
        url, token = weak.endpoint["url"], weak.endpoint["token"]
        async with connect_backbone(url, token=token, durability="process") as backbone:
            await backbone.log.append(RUN, b"x", expected_seq=0)
    orphan = server_of(folder)
    async with join_state_folder(folder, "os") as endpoint:
        assert endpoint.durability == "os"
        assert not orphan.alive()
        async with connect_backbone(endpoint.url, token=endpoint.token, durability="os") as strong:
            assert [stored.data for stored in await strong.log.load(RUN)] == [b"x"]
        async with member(folder, "process") as modest:
            assert modest.endpoint["durability"] == "os"
            await modest.leave()


async def test_an_embedded_server_never_claims_to_survive_its_machine(folder: Path) -> None:
    with pytest.raises(DurabilityTooWeak, match="cluster"):
        async with join_state_folder(folder, "node"):
            raise NotImplementedError


async def test_two_servers_never_share_a_store(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "nats", durability="process", token="t") as server:
        second = EmbeddedServer(tmp_path / "nats", durability="process", token="t")
        with pytest.raises(StoreInUse):
            await second.start()
        assert await answers(server.config.port, "t")
        assert not await answers(server.config.port, "wrong")


async def test_a_server_whose_port_was_taken_comes_up_on_another(tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    port = free_port(folder)
    with socket.create_server(("127.0.0.1", port)):
        running = await start_somewhere(ServerConfig(folder, port, "t", "process"))
        try:
            assert running.config.port != port
            assert await answers(running.config.port, "t")
        finally:
            await running.stop()


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    folder.mkdir()
    (folder / "jetstream").write_text("not a folder")
    with pytest.raises(Unavailable, match="not a directory"):
        async with EmbeddedServer(folder, durability="process", token="t"):
            raise NotImplementedError


async def test_a_process_that_ignores_being_asked_is_killed(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "nats", durability="process", token="t") as server:
        os.kill(server.process.pid, signal.SIGSTOP)
        server.process.kill()
        async with asyncio.timeout(BOUND_S):
            await server.wait_died()
        assert not server.process.alive()


@pytest.mark.parametrize(("durability", "interval"), [("os", "always"), ("process", '"100ms"')])
def test_the_durability_class_sets_when_the_server_syncs(
    tmp_path: Path, durability: Durability, interval: str
) -> None:
    text = ServerConfig(tmp_path, 20_000, "t", durability).text()
    assert f"sync_interval: {interval}\n" in text
    assert ('"sync:always"' in text) == (durability == "os")
