"""Commands by shell and with input, and processes that stay, in a real sandbox."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.secrets import SecretRef, SecretValue
from services.sandbox.port import STDIN_BYTES_MAX
from services.sandbox.tools import process_tools
from services.sandbox.tools.processes import (
    KEPT_MAX,
    RING_BYTES_MAX,
    RUNNING_MAX,
    Ring,
)
from tests.support.seats import RUN, WAIT_S, Bench, Seating, answer, bench, call_of, unheard

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with bench(tmp_path) as opened:
        yield opened


async def started(box: Bench, call: str, /, **arguments: object) -> dict[str, Any]:
    result = await box.run(call_of("startProcess", json.dumps(arguments), call=call))
    return answer(result)


def processes_named(marker: str) -> list[str]:
    """The processes of the whole machine whose command line holds a marker."""
    found: list[str] = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it ended while we looked
    return found


async def read_until(box: Bench, handle: str, wanted: str) -> dict[str, Any]:
    """What a process has printed once it has printed something; bounded by the bench's patience."""
    async with asyncio.timeout(WAIT_S):
        said = await box.done("readProcess", handle=handle)
        while wanted not in said["output"] and said["running"]:
            more: dict[str, Any] = {"from": said["to"], "wait": 10_000}
            await box.done("readProcess", handle=handle, **more)
            said = await box.done("readProcess", handle=handle)
    assert wanted in said["output"]
    return said


async def ended(box: Bench, handle: str) -> dict[str, Any]:
    """How a process ended by itself."""
    beyond: dict[str, Any] = {"from": 1 << 40, "wait": WAIT_S * 1000}
    said = await box.done("readProcess", handle=handle, **beyond)
    assert not said["running"]
    return said


async def test_a_script_runs_with_pipes_and_input(box: Bench) -> None:
    ran = await box.done("exec", shell="cat | tr a-z A-Z; echo ${#0}", stdin="häl\nlo")
    assert ran["output"] == "HäL\nLO4\n"
    plain = await box.done("exec", command="wc", args=["-c"], stdin="x" * STDIN_BYTES_MAX)
    assert plain["output"].strip() == str(STDIN_BYTES_MAX)
    nothing = await box.done("exec", command="cat")
    assert nothing["output"] == ""
    more = await box.failed("exec", command="cat", stdin="x" * (STDIN_BYTES_MAX + 1))
    assert more["error"] == "too_large"


async def test_what_was_cut_of_an_output_can_be_read(box: Bench) -> None:
    said = await box.done("exec", shell="seq 20000")
    assert said["truncated"] is True
    assert "'c1-0'" in said["more"]
    lines = await box.done("readResult", call="c1-0", **{"from": 9999, "to": 10001})
    assert (lines["content"], lines["totalLines"]) == ("10000\n10001\n", 20000)


async def test_what_the_seat_gives_stands_above_what_is_asked_for(tmp_path: Path) -> None:
    def configure(seating: Seating) -> None:
        seating.env = {"HTTPS_PROXY": "http://127.0.0.1:3128"}
        seating.secret_env = {"TOKEN": SecretValue(SecretRef(name="TOKEN"), "the value")}

    async with bench(tmp_path, configure) as box:
        env = {"HTTPS_PROXY": "http://evil", "TOKEN": "mine", "OTHER": "x"}
        shell = "echo $HTTPS_PROXY $TOKEN $OTHER"
        ran = await box.done("exec", shell=shell, env=env)
        assert ran["output"] == "http://127.0.0.1:3128 the value x\n"
        assert ran["ignoredEnv"] == ["HTTPS_PROXY", "TOKEN"]
        handle = (await started(box, "c2-0", shell=f"{shell}; cat", env=env))["handle"]
        assert (await read_until(box, handle, "\n"))["output"] == ran["output"]


async def test_a_process_stays_beside_other_calls_until_it_is_stopped(
    box: Bench, tmp_path: Path
) -> None:
    said = await started(box, "c1-0", shell="echo up; while read x; do echo got $x; done; echo end")
    assert said == {"handle": "p-c1-0", "running": True}
    await read_until(box, "p-c1-0", "up")
    assert box.processes.busy(box.seating.room)
    assert (await box.done("exec", command="true"))["exitCode"] == 0
    await box.done("writeProcess", handle="p-c1-0", text="one\n")
    after = await read_until(box, "p-c1-0", "got one\n")
    part = await box.done("readProcess", handle="p-c1-0", **{"from": 3})
    assert (part["output"], part["from"], part["to"]) == ("got one\n", 3, after["totalBytes"])
    tail = await box.done("readProcess", handle="p-c1-0", **{"from": -4})
    assert tail["output"] == "one\n"
    await box.done("writeProcess", handle="p-c1-0", close=True)
    last = await read_until(box, "p-c1-0", "end")
    await ended(box, "p-c1-0")
    stopped = await box.done("stopProcess", handle="p-c1-0")
    assert (stopped["running"], stopped["exitCode"]) == (False, 0)
    assert stopped["totalBytes"] == last["to"]
    assert not box.processes.busy(box.seating.room)
    assert (await box.failed("writeProcess", handle="p-c1-0", text="x"))["error"] == "no_process"
    (listed,) = (await box.done("listProcesses"))["processes"]
    assert (listed["handle"], listed["running"], listed["exitCode"]) == ("p-c1-0", False, 0)
    assert listed["command"].startswith("echo up;")
    assert not (tmp_path / "nohup.out").exists()


async def test_stopping_ends_all_of_a_process_and_can_be_repeated(box: Bench) -> None:
    """C10."""
    marker = secrets.token_hex(8)
    script = f"trap '' TERM; (setsid sh -c 'echo deep; sleep 1000; : {marker}' &); sleep 1000"
    await started(box, "c1-0", shell=script)
    await read_until(box, "p-c1-0", "deep")
    assert processes_named(marker)
    first = await box.done("stopProcess", handle="p-c1-0")
    assert (first["running"], first["exitCode"] in {137, 143}) == (False, True)
    assert await box.done("stopProcess", handle="p-c1-0") == first
    assert processes_named(marker) == []


async def test_a_start_that_is_delivered_twice_is_one_process(box: Bench, tmp_path: Path) -> None:
    for _ in range(2):
        said = await started(box, "c7-1", shell="echo x >>starts; echo up; cat")
        assert said["handle"] == "p-c7-1"
    await read_until(box, "p-c7-1", "up")
    await box.done("writeProcess", handle="p-c7-1", close=True)
    await box.done("stopProcess", handle="p-c7-1")
    assert (tmp_path / "starts").read_text() == "x\n"
    assert len((await box.done("listProcesses"))["processes"]) == 1


async def test_a_handle_is_its_runs_own_and_a_lost_one_says_so(box: Bench) -> None:
    await started(box, "c1-0", command="cat")
    for tool in ("readProcess", "writeProcess", "stopProcess"):
        other = await box.as_run("another", tool, handle="p-c1-0")
        assert other["error"] == "no_process"
        unknown = await box.failed(tool, handle="p-c9-9")
        assert unknown["error"] == "no_process"
        assert "worker" in unknown["message"]
    assert (await box.as_run("another", "listProcesses"))["processes"] == []


async def test_waiting_for_output_ends_with_the_time_and_with_the_process(box: Bench) -> None:
    await started(box, "c1-0", command="cat")
    quiet = await box.done("readProcess", handle="p-c1-0", wait=20)
    assert (quiet["output"], quiet["running"]) == ("", True)
    call = call_of("readProcess", json.dumps({"handle": "p-c1-0", "wait": 60_000}))
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        waiting = group.create_task(box.box.call(call, unheard))
        await box.done("stopProcess", handle="p-c1-0")
    assert answer(waiting.result())["running"] is False


async def test_a_process_that_does_not_read_stops_nobody(
    box: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_tools, "WRITE_S", 0.2)
    await started(box, "c1-0", command="sleep", args=["1000"])
    full = await box.failed("writeProcess", handle="p-c1-0", text="x" * STDIN_BYTES_MAX)
    assert full["error"] == "too_slow"
    assert (await box.done("stopProcess", handle="p-c1-0"))["running"] is False


async def test_a_process_that_nobody_reads_is_not_held_up(box: Bench, tmp_path: Path) -> None:
    """More than any window and ring: it gets to its end, and the end of its output is kept."""
    bytes_printed = 8 * RING_BYTES_MAX
    script = f"head -c {bytes_printed} /dev/zero | tr '\\0' x; echo done; touch ended"
    await started(box, "c1-0", shell=script)
    async with asyncio.timeout(WAIT_S):
        said = await box.done("readProcess", handle="p-c1-0", **{"from": -5})
        while said["running"]:
            await box.done("readProcess", handle="p-c1-0", wait=100, **{"from": 1 << 40})
            said = await box.done("readProcess", handle="p-c1-0", **{"from": -5})
    assert (said["output"], said["exitCode"]) == ("done\n", 0)
    assert said["totalBytes"] == bytes_printed + 5
    first = await box.done("readProcess", handle="p-c1-0")
    assert first["droppedBytes"] >= bytes_printed - 2 * RING_BYTES_MAX
    assert first["truncated"] is True
    assert (tmp_path / "ended").exists()


async def test_only_so_many_processes_run_and_are_remembered(box: Bench) -> None:
    for number in range(RUNNING_MAX):
        assert (await started(box, f"c1-{number}", command="cat"))["running"] is True
    assert (await started(box, "c2-0", command="cat"))["error"] == "too_many"
    await box.done("stopProcess", handle="p-c1-0")
    assert (await started(box, "c2-1", command="cat"))["running"] is True
    for number in range(RUNNING_MAX):
        if number:
            await box.done("stopProcess", handle=f"p-c1-{number}")
    for number in range(KEPT_MAX):
        await started(box, f"c3-{number}", command="true")
        await box.done("stopProcess", handle=f"p-c3-{number}")
    handles = [one["handle"] for one in (await box.done("listProcesses"))["processes"]]
    assert len(handles) == KEPT_MAX
    assert "p-c2-1" in handles
    assert "p-c1-0" not in handles


async def test_leaving_a_room_or_a_run_ends_its_processes(box: Bench) -> None:
    """C10."""
    marker = secrets.token_hex(8)
    await started(box, "c1-0", shell=f"echo up; cat; : {marker}")
    await box.as_run("another", "startProcess", shell=f"cat; : {marker}")
    await read_until(box, "p-c1-0", "up")
    await box.processes.leave(box.seating.room, RUN.run)
    assert (await box.failed("readProcess", handle="p-c1-0"))["error"] == "no_process"
    assert box.processes.busy(box.seating.room)
    await box.processes.leave(box.seating.room)
    assert not box.processes.busy(box.seating.room)
    assert processes_named(marker) == []


async def test_a_sandbox_that_ends_ends_its_processes(box: Bench) -> None:
    await started(box, "c1-0", shell="echo up; cat")
    await read_until(box, "p-c1-0", "up")
    async with asyncio.timeout(WAIT_S):
        sandbox = await box.seating.sandbox()
        await sandbox.close()
        said = await box.done("readProcess", handle="p-c1-0", wait=10_000, **{"from": 1 << 40})
    assert said["running"] is False


async def test_a_program_that_cannot_be_started_says_so(box: Bench) -> None:
    await started(box, "c1-0", command="no-such-program")
    await read_until(box, "p-c1-0", "not found")
    assert (await ended(box, "p-c1-0"))["exitCode"] == 127


def test_a_ring_keeps_the_end_and_counts_it_all() -> None:
    ring = Ring(4)
    for byte in b"0123456789":
        ring.add(bytes([byte]))
    begin, data = ring.read(0, 100)
    assert data.endswith(b"6789")
    assert begin + len(data) == ring.total == 10
    assert ring.read(8, 1) == (8, b"8")
    assert ring.read(100, 1) == (10, b"")
