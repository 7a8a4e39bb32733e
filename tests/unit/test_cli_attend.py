"""Watching a run in the command: Ctrl-C, its end, a reader that goes away. Not what is shown."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import pytest

from commands.runs import RunStore
from domain.commands import (
    CancelRun,
    Command,
    CompleteGeneration,
    PinnedContext,
    Situation,
    StartRun,
)
from domain.content import CallPart, TextPart
from domain.events import RunPaused, RunResumed
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice
from domain.tools import Lane, Safety, ToolEntry
from eventlog.memory import MemoryServer
from eventlog.owners import Whose
from eventlog.port import Backbone, Cursor
from peritus.cli.attend import Attendance
from peritus.cli.loop import Out
from peritus.cli.screens import JsonLines
from peritus.feed import Heard as HeardEvent
from peritus.jobs import Send

pytestmark = pytest.mark.anyio

REF = RunRef("t", "job", "job")
CONTEXT = PinnedContext("r", "digest", 1, ModelChoice(provider="p", model="m"), (), Limits())


@pytest.fixture(autouse=True)
async def own_signals() -> AsyncGenerator[None]:
    """The command ends with its process; here the signals go back to whoever had them."""
    yield
    loop = asyncio.get_running_loop()
    loop.remove_signal_handler(signal.SIGINT)
    loop.remove_signal_handler(signal.SIGTERM)


class Heard(Out):
    """Standard output as a list, and a wish to hear of each line."""

    def __init__(self, on_line: Callable[[bytes], None] = lambda _: None) -> None:
        self.lines: list[bytes] = []
        self._on_line = on_line

    async def write(self, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        self.lines.append(data)
        self._on_line(data)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def decide(backbone: Backbone, command: Command) -> None:
    runs = RunStore(backbone, epoch="e", now_ms=lambda: 1, new_id=lambda: "id")
    await runs.execute(REF, command, Situation(now_ms=1, context=CONTEXT))


async def begun() -> Backbone:
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    start = StartRun(id="s", expert="x", definition="d", parts=(TextPart(text="Go."),))
    await decide(backbone, start)
    return backbone


def attending(backbone: Backbone, send: Send, out: Out) -> Attendance:
    return Attendance(backbone=backbone, send=send, ref=REF, screen=JsonLines(), out=out)


def on(kind: bytes, act: Callable[[], None]) -> Callable[[bytes], None]:
    return lambda line: act() if kind in line else None


async def test_the_first_ctrl_c_asks_the_run_to_stop_and_shows_that_it_has() -> None:
    backbone = await begun()

    async def send(ref: RunRef, command: Command) -> None:
        assert ref == REF
        assert isinstance(command, CancelRun)
        await decide(backbone, command)

    out = Heard(on(b"generation.requested.v2", press_ctrl_c))
    async with asyncio.timeout(5):
        end = await attending(backbone, send, out).watch()

    assert not isinstance(end, str)
    assert end.event.type == "run.cancelled.v1"
    assert b"run.cancelled.v1" in out.lines[-1]


async def test_the_second_ctrl_c_leaves_a_run_that_does_not_stop() -> None:
    backbone = await begun()

    async def send(ref: RunRef, command: Command) -> None:
        del ref, command
        press_ctrl_c()  # asked, and nobody settles it

    out = Heard(on(b"generation.requested.v2", press_ctrl_c))
    async with asyncio.timeout(5):
        assert await attending(backbone, send, out).watch() == "left"


async def test_a_reader_that_goes_away_leaves_the_run_alone() -> None:
    backbone = await begun()

    def gone(line: bytes) -> None:
        del line
        raise BrokenPipeError

    async def never(ref: RunRef, command: Command) -> None:
        raise NotImplementedError

    async with asyncio.timeout(5):
        assert await attending(backbone, never, Heard(gone)).watch() == "left"


CALL = CallPart(provider_id="p", tool="question", arguments='{"text": "Which?"}')
ASK = ToolEntry(
    name="question", skill="ask", lane=Lane.PERSON, safety=Safety.UNSAFE, input_schema={}
)


async def asking() -> Backbone:
    """A run that waits for an answer."""
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    runs = RunStore(backbone, epoch="e", now_ms=lambda: 1, new_id=lambda: "id")
    where = Situation(now_ms=1, context=replace(CONTEXT, tools=(ASK,)))
    start = StartRun(id="s", expert="clerk", definition="d", parts=(TextPart(text="Go."),))
    replied = CompleteGeneration(
        step=1, attempt=1, parts=(CALL,), stop_reason="tool_calls", usage=None
    )
    for command in (start, replied):
        await runs.execute(REF, command, where)
    return backbone


async def never(ref: RunRef, command: Command) -> None:
    raise NotImplementedError


async def test_a_run_that_only_a_person_can_carry_on_is_left_when_we_are_not_to_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    backbone, out = await asking(), Heard()
    attendance = attending(backbone, never, out)
    attendance.leaves = True
    async with asyncio.timeout(5):
        assert await attendance.watch() == "waiting"

    assert b"question.asked.v1" in b"".join(out.lines)
    said = capsys.readouterr().err
    assert "clerk asks: Which?" in said
    assert "peritus answer job c1-0 TEXT" in said


async def test_what_waits_already_is_told_when_a_run_is_taken_up() -> None:
    backbone, out = await asking(), Heard()
    attendance = attending(backbone, never, out)
    attendance.leaves = True
    state = await attendance.recall()
    async with asyncio.timeout(5):
        assert await attendance.watch() == "waiting"

    assert state.waits
    assert out.lines == [b""]


async def test_a_run_that_waits_is_watched_until_it_is_over() -> None:
    backbone, seen = await asking(), asyncio.Event()
    out = Heard(on(b"question.asked.v1", seen.set))
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(attending(backbone, never, out).watch())
        await seen.wait()
        await decide(backbone, CancelRun(id="c"))

    end = watching.result()
    assert not isinstance(end, str)
    assert end.event.type == "run.cancelled.v1"


async def test_only_the_types_that_are_asked_for_are_lines() -> None:
    lines = JsonLines(frozenset({"run.paused.v1"}))
    whose = Whose("clerk", "boss")
    heard = [
        HeardEvent(Cursor("a", 1), REF, 1, 1, event, whose)
        for event in (RunPaused(command="p"), RunResumed(command="r"))
    ]

    made = [lines.heard(one) for one in heard]
    assert made[1] == b""
    line = json.loads(made[0])
    assert (line["job"], line["run"], line["expert"], line["parent"]) == (
        *("job", "job"),
        *("clerk", "boss"),
    )
