"""Processes that stay, in a sandbox of any backend: their streams, and how they end."""

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import WINDOW_BYTES, Backend, Command, Sandbox
from services.sandbox.workspace import Workspace
from services.worker.process import Chunk, Process
from tests.contract.sandbox_backends import BOUND_S, marker, processes_with, python, shell, spec

Seen = Callable[[str], Awaitable[list[str]]]

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

FLOOD_BYTES = 10 * 1024 * 1024
KERNEL_BYTES = 4 * 1024 * 1024
"""More than pipes and sockets between us and a process hold, in bytes."""


async def line_of(output: AsyncIterator[Chunk]) -> bytes:
    async with asyncio.timeout(BOUND_S):
        said = b""
        while not said.endswith(b"\n"):
            said += (await anext(output)).data
        return said


async def all_of(process: Process) -> dict[str, bytes]:
    """Everything it prints, once its offsets were seen to be without a gap."""
    said: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    async with asyncio.timeout(BOUND_S):
        async for chunk in process.output():
            assert chunk.offset == len(said[chunk.stream])
            assert chunk.data
            said[chunk.stream] += chunk.data
    return {stream: bytes(data) for stream, data in said.items()}


async def test_what_is_written_is_read_and_answered(sandbox: Sandbox) -> None:
    process = await sandbox.start(Command("cat"))
    output = aiter(process.output())
    for number in range(100):
        await process.write(b"line %d\n" % number)
        assert await line_of(output) == b"line %d\n" % number
    await process.close_stdin()
    await process.close_stdin()
    async with asyncio.timeout(BOUND_S):
        assert [chunk async for chunk in output] == []
        assert await process.wait() == 0
    with pytest.raises(BrokenPipeError):
        await process.write(b"too late")


async def test_both_streams_come_in_order_without_a_gap(sandbox: Sandbox) -> None:
    script = "for i in $(seq 500); do echo out $i; echo err $i >&2; done; exit 5"
    process = await sandbox.start(shell(script))
    assert await all_of(process) == {
        "stdout": b"".join(b"out %d\n" % i for i in range(1, 501)),
        "stderr": b"".join(b"err %d\n" % i for i in range(1, 501)),
    }
    assert await process.wait() == 5


async def test_a_slow_reader_loses_nothing_and_memory_is_bounded(sandbox: Sandbox) -> None:
    process = await sandbox.start(
        shell(f"head -c {FLOOD_BYTES} /dev/urandom | tee /dev/stderr | sha256sum > sum")
    )
    digest, total = hashlib.sha256(), 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(BOUND_S):
        async for chunk in process.output():
            assert (chunk.stream, chunk.offset) == ("stderr", total)
            digest.update(chunk.data)
            total += len(chunk.data)
            await asyncio.sleep(0.001)  # slow is the point
    assert total == FLOOD_BYTES
    assert await process.wait() == 0
    said = await sandbox.exec(shell("cut -d' ' -f1 sum"))
    assert bytes(said.stdout.kept).decode().strip() == digest.hexdigest()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < FLOOD_BYTES  # far less, but allocators have their own mind


async def test_a_process_that_is_not_read_waits(sandbox: Sandbox) -> None:
    """It gets as far as the window and the kernel's pipe, and no further until it is read."""
    script = (
        "import os, sys\n"
        "os.set_blocking(1, False)\n"
        "written, full = 0, False\n"
        "import select, time\n"
        "quiet = 0\n"
        "while quiet < 10:\n"
        "    try:\n"
        "        written += os.write(1, b'x' * 4096); quiet = 0\n"
        "    except BlockingIOError:\n"
        "        time.sleep(0.05); quiet += 1\n"
        "    if written > 2**26: break\n"
        "print(written, file=sys.stderr)\n"
    )
    process = await sandbox.start(python(script))
    async with asyncio.timeout(BOUND_S):
        await process.wait()
    said = await all_of(process)
    assert int(said["stderr"]) == len(said["stdout"])
    assert len(said["stdout"]) <= WINDOW_BYTES + KERNEL_BYTES


async def test_a_writer_waits_for_a_process_that_does_not_read(
    sandbox: Sandbox,
) -> None:
    process = await sandbox.start(
        shell("read go; echo ready; until [ -e go ]; do sleep 0.01; done; cat | wc -c")
    )
    output = aiter(process.output())
    await process.write(b"\n")
    assert await line_of(output) == b"ready\n"
    data = b"x" * (2 * KERNEL_BYTES)

    async def feed() -> None:
        await process.write(data)
        await process.close_stdin()

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        feeding = group.create_task(feed())
        await sandbox.exec(shell("sleep 0.2"))
        assert not feeding.done()
        await sandbox.exec(shell("touch go"))
        assert (await line_of(output)).strip() == b"%d" % len(data)
    assert await process.wait() == 0


async def test_whoever_writes_to_a_process_that_ends_gets_a_broken_pipe(sandbox: Sandbox) -> None:
    process = await sandbox.start(shell("read go; exit 6"))

    async def feed() -> None:
        while True:
            await process.write(b"line\n" * 65536)

    with pytest.raises(BrokenPipeError):
        async with asyncio.timeout(BOUND_S):
            await feed()
    assert await process.wait() == 6


async def test_stopping_asks_first(sandbox: Sandbox) -> None:
    process = await sandbox.start(
        shell("trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    )
    output = aiter(process.output())
    assert await line_of(output) == b"up\n"
    assert await process.stop(grace_s=BOUND_S) == 3
    rest = [chunk.data async for chunk in output if chunk.stream == "stdout"]
    assert rest == [b"asked\n"]
    assert await process.stop() == 3


async def test_stopping_ends_all_it_started_however_stubborn(sandbox: Sandbox, seen: Seen) -> None:
    """C10, C11."""
    word = marker()
    script = f"trap '' TERM; (setsid sh -c 'trap \"\" TERM; : {word}; sleep 1000' &); echo up; "
    process = await sandbox.start(shell(f"{script} while :; do sleep 1; done # {word}"))
    assert await line_of(aiter(process.output())) == b"up\n"
    assert await seen(word) != []
    assert await process.stop(grace_s=0.1) == 137
    assert await seen(word) == []


async def test_its_death_is_seen_and_nothing_of_it_stays(sandbox: Sandbox, seen: Seen) -> None:
    word = marker()
    process = await sandbox.start(
        shell(f"(setsid sh -c ': {word}; sleep 1000' >/dev/null 2>&1 &); read go; kill -9 $$")
    )
    await process.write(b"\n")
    async with asyncio.timeout(BOUND_S):
        assert await process.wait() == 137
    assert await seen(word) == []
    assert await all_of(process) == {"stdout": b"", "stderr": b""}


async def test_several_wait_for_one_end(sandbox: Sandbox) -> None:
    process = await sandbox.start(shell("read go; exit 4"))
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        waiting = [group.create_task(process.wait()) for _ in range(3)]
        waiting[0].cancel()
        await process.write(b"\n")
    assert [task.result() for task in waiting[1:]] == [4, 4]


async def test_a_program_that_is_missing_ends_at_once(sandbox: Sandbox) -> None:
    process = await sandbox.start(Command("nothing-of-that-name"))
    async with asyncio.timeout(BOUND_S):
        assert await process.wait() == 127
    assert b"nothing-of-that-name" in (await all_of(process))["stderr"]


async def test_what_cannot_start_is_unavailable(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxUnavailable):
        await sandbox.start(Command("cat", cwd="/workspace/missing"))


async def test_it_stays_between_commands_and_shares_their_network(
    sandbox: Sandbox, promises: Callable[[str], None]
) -> None:
    promises("own_network")
    process = await sandbox.start(
        python(
            "import socket\n"
            "with socket.create_server(('127.0.0.1', 4321)) as s:\n"
            "    print('up', flush=True)\n"
            "    while True: s.accept()[0].sendall(b'served')\n"
        )
    )
    assert await line_of(aiter(process.output())) == b"up\n"
    call = "import socket; print(socket.create_connection(('127.0.0.1', 4321), 5).recv(9))"
    for _ in range(2):
        outcome = await sandbox.exec(python(call))
        assert bytes(outcome.stdout.kept) == b"b'served'\n"
    await process.stop(grace_s=0)


async def test_closing_the_sandbox_ends_it(backend: Backend, workspace: Workspace) -> None:
    """C10: whoever waits or reads sees that."""
    word = marker()
    sandbox = await backend.open(spec(workspace))
    process = await sandbox.start(shell(f"echo up; sleep 1000 # {word}"))
    output = aiter(process.output())
    assert await line_of(output) == b"up\n"

    async def rest() -> list[Chunk]:
        return [chunk async for chunk in output]

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        waiting = group.create_task(process.wait())
        reading = group.create_task(rest())
        await asyncio.sleep(0)
        await sandbox.close()
        assert processes_with(word) == []
        assert await waiting == 137
        assert await reading == []
    with pytest.raises(SandboxUnavailable):
        await sandbox.start(Command("cat"))
