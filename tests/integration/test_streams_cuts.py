"""A client that is cut anywhere and comes back sees every event once and in order (C9)."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.port import Backbone
from tests.support.gateway import BOUND_S, deps_of, gateway
from tests.support.pen import Pen, completed, replied, requested, started
from tests.support.raw_stream import RawStream, Seen, raw_stream

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

CUTS = 200
NOTE = e.OpaqueEvent(type="note.taken.v1", body={"text": "Zeit ⏱ \n"})
BATCHES: tuple[tuple[e.Event, ...], ...] = (
    (replied(1), e.StepEnded(step=1), requested(2)),
    (NOTE,),
    (NOTE, NOTE, NOTE, NOTE),
    (replied(2), e.StepEnded(step=2), requested(3)),
    *((NOTE, NOTE),) * 12,
    completed(3),
)

Cut = Callable[[RawStream, random.Random], int | None]
"""Where the connection is cut, once the bytes up to there have come."""


def before_the_first_id(stream: RawStream, dice: random.Random) -> int | None:
    """Inside the hello, or before it."""
    return dice.randrange(stream.frames[0].end) if stream.frames else None


def inside(frames: Iterable[Seen], dice: random.Random) -> int | None:
    some = next(iter(frames), None)
    return dice.randrange(some.start + 1, some.end) if some else None


def inside_an_event(stream: RawStream, dice: random.Random) -> int | None:
    return inside((seen for seen in stream.frames if seen.durable), dice)


def inside_a_delta(stream: RawStream, dice: random.Random) -> int | None:
    return inside((seen for seen in stream.frames if seen.event == "live"), dice)


def between_events(stream: RawStream, dice: random.Random) -> int | None:
    ends = [seen.end for seen in stream.frames if seen.durable]
    return dice.choice(ends) if ends else None


def after(stream: RawStream, event: str) -> int | None:
    return next((seen.end for seen in stream.frames if seen.event == event), None)


def after_the_last_event(stream: RawStream, _: random.Random) -> int | None:
    return after(stream, "run.completed.v2")


def inside_the_last_event(stream: RawStream, dice: random.Random) -> int | None:
    return inside((seen for seen in stream.frames if seen.event == "run.completed.v2"), dice)


def after_the_end(stream: RawStream, _: random.Random) -> int | None:
    return after(stream, "end")


EARLY: tuple[Cut, ...] = (before_the_first_id, inside_an_event, inside_a_delta, between_events)
LATE: tuple[Cut, ...] = (
    inside_the_last_event,
    after_the_last_event,
    before_the_first_id,
    after_the_end,
    after_the_end,
)


@dataclass
class Talk:
    """One run that is written while it is followed, and what its client has seen."""

    backbone: Backbone
    pen: Pen
    left: list[tuple[e.Event, ...]]
    seen: list[tuple[str | None, str]] = field(default_factory=list[tuple[str | None, str]])
    last: str | None = None

    async def go_on(self) -> None:
        """Say something live, and store the next envelope."""
        for offset in (0, 3):
            text = b'{"type":"delta.v1","step":1,"attempt":1,"kind":"text","part":0,'
            text += b'"offset":%d,"text":"abc","tool":""}' % offset
            await self.backbone.live.publish(self.pen.ref, text)
        if self.left:
            await self.pen.write(self.backbone.log, *self.left.pop(0))

    async def session(self, http: httpx2.AsyncClient, cut: Cut, dice: random.Random) -> bool:
        """Come back, and be cut; whether that happened where it was meant to."""
        target = f"/v1/runs/{self.pen.ref.run}/events?live=1"
        async with raw_stream(http, target, last=self.last) as stream:
            await stream.until(1)
            assert stream.frames[0].event == "hello"
            at = cut(stream, dice)
            if at is None:
                await self.go_on()
            if cut in LATE:
                while self.left:
                    await self.go_on()
            while at is None and await stream.more():
                at = cut(stream, dice)
                if at is None:
                    await self.go_on()
        whole = [seen for seen in stream.frames if at is None or seen.end <= at]
        for frame in whole:
            self.last = frame.id or self.last
            if frame.durable:
                self.seen.append((frame.id, frame.event))
        return at is not None

    @property
    def expected(self) -> list[tuple[str | None, str]]:
        incarnation = self.backbone.log.incarnation
        return [
            (f"{incarnation}-{seq}-{index}", event.type)
            for seq, envelope in self.pen.written
            for index, event in enumerate(envelope.events)
        ]


async def test_200_cuts_of_every_kind_lose_nothing_and_repeat_nothing(
    backbone: Backbone, tmp_path: Path
) -> None:
    """C9: before the first id, inside and between frames, in a delta, at the last event, after."""
    dice = random.Random(20)
    done: Counter[str] = Counter()
    async with (
        asyncio.timeout(4 * BOUND_S),
        gateway(deps_of(backbone, tmp_path, heartbeat_s=60.0)) as http,
    ):
        trial = 0
        while done.total() < CUTS:
            trial += 1
            talk = Talk(backbone, Pen(RunRef("acme", "job1", f"run{trial}")), list(BATCHES))
            await talk.pen.write(backbone.log, *started())
            for cut in (*(dice.choice(EARLY) for _ in range(4)), *LATE):
                if await talk.session(http, cut, dice):
                    done[cut.__name__] += 1
            assert talk.seen == talk.expected
            async with raw_stream(http, f"/v1/runs/run{trial}/events", last=talk.last) as stream:
                again = await stream.rest()
            assert [frame.event for frame in again] == ["hello", "end"]
    assert set(done) == {cut.__name__ for cut in (*EARLY, *LATE)}
    assert min(done.values()) >= 10
