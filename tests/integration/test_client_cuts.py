"""Both clients behind a proxy that cuts them 200 times: each event once, in order (C9)."""

import asyncio
import random
import re
from pathlib import Path

import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition
from peritus.client import Delta, End, Heard, SoFar
from tests.support.both_clients import FORMS, FormName, opened
from tests.support.cutting import Cutter, cutting
from tests.support.gateway import deps_of, gateway
from tests.support.pen import Pen, completed, replied, requested, started
from tests.support.people import team
from tests.support.speaking import Speaker, speaking

pytestmark = pytest.mark.anyio

CUTS = 200
BOUND_S = 60.0
REF = RunRef("acme", "j1", "j1")
NOTE = e.OpaqueEvent(type="note.taken.v1", body={"text": "Zeit ⏱ \n" * 4})


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


async def write(backbone: Backbone, steps: int) -> list[str]:
    """A run of so many steps with some envelopes of several events; the cursors of its events."""
    pen = Pen(REF)
    await pen.write(backbone.log, *started())
    for step in range(1, steps):
        await pen.write(backbone.log, replied(step), e.StepEnded(step=step), requested(step + 1))
        await pen.write(backbone.log, *[NOTE] * (step % 4)) if step % 4 else None
    await pen.write(backbone.log, *completed(steps))
    return [
        f"{backbone.log.incarnation}-{seq}-{index}"
        for seq, envelope in pen.written
        for index, _ in enumerate(envelope.events)
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bytes_max", [1_500, 6_000])
async def test_client_that_is_cut_anywhere_hears_each_event_once_and_in_order(
    backbone: Backbone, tmp_path: Path, form: FormName, bytes_max: int
) -> None:
    """Small cuts are mostly before the first id and in the first frames, larger ones anywhere."""
    expected = await write(backbone, steps=CUTS * bytes_max // 8_000)
    cutter = Cutter(random.Random(f"{form} {bytes_max}"), CUTS, bytes_max)
    async with (
        asyncio.timeout(BOUND_S),
        gateway(deps_of(backbone, tmp_path)) as http,
        cutting(str(http.base_url), cutter) as url,
        opened(form, url, reconnects_max=CUTS) as client,
    ):
        seen: list[str] = []
        while True:  # also the one that is the last is cut at the terminal event and after it
            frames = await client.told("j1", after=seen[-1] if seen else None)
            seen += [frame.cursor for frame in frames if isinstance(frame, Heard)]
            assert seen == expected
            assert [type(frame) for frame in frames if isinstance(frame, End)] == [End]
            if cutter.made == CUTS:
                break
    check_places(cutter, expected)


def check_places(cutter: Cutter, expected: list[str]) -> None:
    """Each connection asks for what comes after the last whole event before, and gets no other."""
    assert len(cutter.passed) >= CUTS
    last: str | None = None
    for one in cutter.passed:
        asked = re.search(rb"^last-event-id: (.+?)\r$", one.asked, re.MULTILINE | re.IGNORECASE)
        assert (asked[1].decode() if asked else None) == last
        frames = re.findall(rb"id: (\S+)\nevent: (\S+)\n(?:.+\n)+\n", one.answered)
        events = [name.decode() for name, kind in frames if kind not in (b"hello", b"end")]
        before = 0 if last is None or last not in expected else expected.index(last) + 1
        assert events == expected[before : before + len(events)]
        if events or (frames and last is None):
            last = frames[-1][0].decode()


@pytest.mark.parametrize("form", FORMS)
async def test_reply_in_the_making_is_whole_in_spite_of_cuts(
    backbone: Backbone, tmp_path: Path, form: FormName
) -> None:
    """Deltas and what was said so far come to the text of the event, wherever it is cut."""
    speaker, cutter = Speaker(), Cutter(random.Random(form), CUTS, 1_500)
    pieces = [f"piece {number}, " for number in range(120)]
    text, heard = "", list[str]()
    async with (
        asyncio.timeout(BOUND_S),
        gateway(deps_of(backbone, tmp_path, definitions=one_definition(team))) as http,
        cutting(str(http.base_url), cutter) as url,
        opened(form, url, reconnects_max=CUTS) as client,
        speaking(backbone, speaker),
    ):
        run = await client.start("clerk", "Go", job="j1")
        left = iter([*pieces, None])
        async for frame in client.stream(run, live=True):
            match frame:
                case Delta(kind="text", offset=offset, text=piece) if offset <= len(text):
                    text = text[:offset] + piece
                case SoFar(kind="text", text=whole):
                    text = whole
                case Heard(event=e.GenerationCompleted()):
                    heard.append(frame.cursor)
                case Heard(event=e.GenerationRequested()) | Delta():
                    pass
                case _:
                    continue
            said = next(left, "")
            if said is None:
                speaker.stop()
            elif said:
                speaker.say(said)
    assert len(heard) == 1
    assert "".join(pieces).startswith(text)
    assert cutter.made > 10
