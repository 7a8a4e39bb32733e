"""Appends that get no answer, are refused, or come second. Not what is decided."""

import pytest

from commands import runs as run_store
from domain.ids import RunRef
from eventlog.memory.faults import FaultPoint, Kind
from tests.support.office import office, troubled
from tests.support.runs import cancel, goes_on

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job1", "run1")


async def test_append_whose_answer_is_lost_is_found_and_not_made_twice() -> None:
    """Rule 4."""
    desk, plan = troubled()
    await desk.start(REF)
    plan.faults.append((FaultPoint.APPEND, Kind.LOST_ACK))
    await desk.tell(REF, goes_on("more"))
    assert len(desk.lines(REF)) == 2


@pytest.mark.parametrize("kind", [Kind.DROP, Kind.REFUSE, Kind.CONFLICT])
async def test_append_that_was_not_made_is_made_again(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 4, and the spurious conflicts of a cluster."""
    monkeypatch.setattr(run_store, "UNKNOWN_PAUSE_S", 0.0)
    desk, plan = troubled()
    await desk.start(REF)
    plan.faults.append((FaultPoint.APPEND, kind))
    await desk.tell(REF, goes_on("more"))
    assert len(desk.lines(REF)) == 2


async def test_append_without_an_answer_that_others_overtook_is_decided_again() -> None:
    """Rules 1 and 4."""
    desk, plan = troubled()
    await desk.start(REF)
    await office("e2", desk).tell(REF, goes_on("other", "k0"))
    plan.faults.append((FaultPoint.APPEND, Kind.DROP))
    await desk.tell(REF, cancel())
    assert (await desk.state(REF)).commands_seen == {"start", "k0", "x1"}


async def test_append_that_is_only_found_at_the_next_try_is_not_made_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 4: the conflict is with ourselves."""
    monkeypatch.setattr(run_store, "UNKNOWN_PAUSE_S", 0.0)
    desk, plan = troubled()
    await desk.start(REF)
    plan.faults.extend([(FaultPoint.APPEND, Kind.LOST_ACK), (FaultPoint.LOAD, Kind.REFUSE)])
    await desk.tell(REF, cancel())
    assert len(desk.lines(REF)) == 2
