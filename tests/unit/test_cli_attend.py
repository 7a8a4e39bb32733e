"""Watching a run in the command: Ctrl-C, its end, a reader that goes away. Not what is shown."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable

import pytest

from commands.runs import RunStore
from domain.commands import CancelRun, Command, PinnedContext, Situation, StartRun
from domain.content import TextPart
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from peritus.cli.attend import Attendance
from peritus.cli.loop import Out
from peritus.cli.screens import JsonLines
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
