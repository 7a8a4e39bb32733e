"""The proxy process dies, or its worker: nothing gets out meanwhile, nothing stays (C10)."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from domain.sandbox import SecretGrant
from services.sandbox.egress.broker import Broker
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.failures import SandboxUnavailable
from tests.integration.egress_world import GOOD, WAIT_S, World, world

pytestmark = pytest.mark.anyio

KEY = "sk-canary-0123456789"
GRANTS = (SecretGrant(name="KEY", deliver="egress", hosts=("api.test",)),)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path, secrets={"KEY": KEY}, grants=GRANTS) as made:
        yield made


def process_of(broker: Broker) -> int:
    assert broker.pid is not None
    return broker.pid


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


async def test_killed_in_the_middle_it_fails_closed_and_comes_back(here: World) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def slow(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del head, reader
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n" + bytes(2_000_000))
        await writer.drain()
        halfway.set()
        await go_on.wait()
        writer.write(bytes(2_000_000))

    here.web.reply = slow
    first = process_of(here.broker)
    async with asyncio.TaskGroup() as tasks:
        transfer = tasks.create_task(here.curl("-o", "got", f"http://{GOOD}:{here.web.port}/"))
        async with asyncio.timeout(WAIT_S):
            await halfway.wait()
        os.kill(first, signal.SIGKILL)
        code, _ = await transfer
    assert code != 0  # it broke off, and looks like it
    go_on.set()
    await gone(first)

    # The same sandbox, with the same variables and files, goes on with a new process.
    code, said = await here.curl(
        "-H", f"Authorization: {here.prepared.stand_ins['KEY']}",
        f"https://api.test:{here.safe.port}/",
    )  # fmt: skip
    assert (code, said) == (0, "hello")
    assert KEY.encode() in here.safe.heads[-1]
    second = process_of(here.broker)
    assert second != first
    tally = await here.session.take()
    assert tally.lost
    assert [row.host for row in tally.rows] == ["api.test"]
    assert not (await here.session.take()).lost
    await here.broker.close()
    await gone(second)


async def test_what_was_spent_is_not_forgotten_with_the_process(tmp_path: Path) -> None:
    async def reply(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del head, reader
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))

    async with world(tmp_path, policy={"bytes_max": 5_000_000}) as here:
        here.web.reply = reply
        url = f"http://{GOOD}:{here.web.port}/"
        assert (await here.curl("-o", "got", url))[0] == 0
        await here.session.take()
        first = process_of(here.broker)
        os.kill(first, signal.SIGKILL)
        await gone(first)
        assert (await here.curl("-o", "got", url))[0] != 0
        rows = (await here.session.take()).rows
        assert ("denied", "byte_limit") in [(row.verdict, row.reason) for row in rows]


async def test_while_there_is_no_process_connections_wait(here: World) -> None:
    first = process_of(here.broker)
    os.kill(first, signal.SIGSTOP)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(here.curl(f"http://{GOOD}:{here.web.port}/"))
        os.kill(first, signal.SIGKILL)
        assert await waiting == (0, "hello")
    assert process_of(here.broker) != first


def seen_of(process: Path) -> tuple[bytes, bytes, list[str]]:
    """Environment, command line and descriptors, as /proc shows them."""
    held = [str(link.readlink()) for link in (process / "fd").iterdir()]
    return (process / "environ").read_bytes(), (process / "cmdline").read_bytes(), held


async def test_it_has_nothing_of_the_worker(here: World) -> None:
    process = Path(f"/proc/{process_of(here.broker)}")
    environ, cmdline, held = seen_of(process)
    names = {line.partition(b"=")[0].decode() for line in environ.split(b"\0") if line}
    assert names <= {
        "PATH", "LANG", "HOME", "CREDENTIALS_DIRECTORY", "DBUS_SESSION_BUS_ADDRESS",
        "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
    }  # fmt: skip
    assert KEY.encode() not in environ + cmdline
    kinds = {name.partition(":")[0] for name in held}
    assert kinds <= {"/dev/null", "socket", "anon_inode"}
    # Its end of the pair to the worker, its event loop's own pair, and the listener.
    assert sum(name.startswith("socket") for name in held) <= 4


async def test_a_session_that_is_closed_is_served_no_more(here: World) -> None:
    reader, writer = await here.connect()
    writer.write(b"GET http://up.test/ HTTP/1.1\r\n")
    await here.session.take()  # it was accepted before
    await here.session.close()
    async with asyncio.timeout(WAIT_S):
        assert await reader.read() == b""
    writer.close()
    await here.session.close()
    with pytest.raises(SandboxUnavailable):
        await here.session.take()


async def test_without_certificates_there_is_no_egress() -> None:
    async with asyncio.TaskGroup() as tasks:
        broker = Broker(EgressSettings(extra_ca_file="/nowhere.pem"), tasks)
        with pytest.raises(SandboxUnavailable, match="certificates"):
            await broker.prepare(EgressPolicy())
        await broker.close()
        await broker.close()
        with pytest.raises(SandboxUnavailable):
            await broker.prepare(EgressPolicy())


async def test_a_process_that_does_not_start_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with asyncio.TaskGroup() as tasks:
        broker = Broker(EgressSettings(), tasks)
        with pytest.raises(SandboxUnavailable, match="cannot be started"):
            await broker.prepare(EgressPolicy())
        await broker.close()


WORKER = """
import asyncio, socket, sys
from services.sandbox.egress.broker import Broker
from services.sandbox.egress.policy import EgressPolicy, EgressSettings

async def main():
    async with asyncio.TaskGroup() as tasks:
        broker = Broker(EgressSettings(), tasks)
        prepared = await broker.prepare(EgressPolicy())
        listener = socket.create_server(("127.0.0.1", 0))
        async def on_denied(row): pass
        await broker.attach(prepared, listener, on_denied)
        print(broker.pid, flush=True)
        await asyncio.Event().wait()

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_it_dies_with_its_worker(end: signal.Signals, loop: str) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, loop, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert worker.stdout is not None
    async with asyncio.timeout(WAIT_S):
        pid = int(await worker.stdout.readline())
        os.kill(pid, 0)  # it is there
        worker.send_signal(end)
        await worker.wait()
    await gone(pid)
