"""Events of runs with their place, and of whom they are. Not what they mean."""

import asyncio

import pytest

from domain import events as e
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.owners import Whose
from peritus.feed import follow_events, stored_events
from tests.support.pen import Pen, completed, started

pytestmark = pytest.mark.anyio

ROOT = RunRef("t", "root", "root")
CHILD = RunRef("t", "root", "child")
NEVER = RunRef("t", "root", "never")
PARENT = e.Parent(run="root", call="c1-0")


async def test_every_event_says_of_whom_it_is_also_when_the_start_is_before_the_place() -> None:
    log = MemoryServer(now_ms=lambda: 0).backbone().log
    root, child = Pen(ROOT), Pen(CHILD)
    await root.write(log, *started("boss"))
    await child.write(log, *started("clerk", PARENT))
    await Pen(NEVER).write(log, e.CancelRequested(command="c", parent=PARENT))
    last = await child.write(log, *completed(1))

    stored = await stored_events(log, [ROOT, CHILD, NEVER])
    async with asyncio.timeout(5):
        async with follow_events(log, RunRef("t", "root", "*"), after_seq=last - 1) as found:
            late = await anext(found)

    whose = {heard.ref.run: heard.whose for heard in stored}
    assert whose == {
        "root": Whose("boss"),
        "child": Whose("clerk", "root"),
        "never": Whose("", "root"),
    }
    assert [heard.whose for heard in late] == [Whose("clerk", "root")] * 3
    assert late[0].json["expert"] == "clerk"
