"""No history is too strange for a fold: what is wrong with it is not theirs to say.

Events of golden logs and worlds, in any order, any number of times, with gaps and unknown ones.
"""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import events as e
from domain.envelope import decode, is_tombstone
from domain.ids import RunRef
from eventlog.port import Stored
from projections.view import AnyView
from projections.views import ALL
from tests.support.pen import Pen
from tests.support.tables import Row, Rows
from tests.support.worlds import golden

REF = RunRef("acme", "j1", "j1")
UNKNOWN = e.OpaqueEvent(type="mood.changed.v7", body={"call": "c1-0", "step": 1, "charged": 9})
MOVING = {"id", "seq", "version", "first_seq", "index", "at_ms", "updated_at_ms", "unknown_events"}
"""What says where or when something was: of a log with more in it, it is elsewhere."""


@cache
def every_event() -> tuple[e.Event, ...]:
    return tuple(
        event for log in golden().values() for one in log for event in decode(one.data).events
    )


def histories() -> st.SearchStrategy[list[list[int]]]:
    at = st.integers(0, len(every_event()) - 1)
    return st.lists(st.lists(at, min_size=1, max_size=12), max_size=12)


@pytest.mark.parametrize("view", ALL, ids=lambda view: view.name)
@settings(max_examples=25, deadline=None)
@given(picked=st.data())
def test_any_events_in_any_order_are_folded(view: AnyView, picked: st.DataObject) -> None:
    rows, pen = Rows(view), Pen(REF)
    for some in picked.draw(histories()):
        rows.tell(pen, [every_event()[at] for at in some])


@pytest.mark.parametrize("view", ALL, ids=lambda view: view.name)
@pytest.mark.parametrize("name", sorted(golden()))
def test_events_of_a_newer_release_change_no_row(view: AnyView, name: str) -> None:
    """C17: wherever they stand."""
    log = golden()[name]
    assert told(view, log, with_unknown=True) == told(view, log, with_unknown=False)


def told(view: AnyView, log: tuple[Stored, ...], *, with_unknown: bool) -> dict[str, list[Row]]:
    rows = Rows(view)
    pens: dict[RunRef, Pen] = {}
    for one in log:
        envelope = decode(one.data)
        pen = pens.setdefault(one.ref, Pen(one.ref))
        pen.at_ms, pen.cause = envelope.at_ms, envelope.cause.type
        more = with_unknown and not is_tombstone(envelope)  # nothing comes after that, ever
        strange = [UNKNOWN] if more else []
        events = [event for known in envelope.events for event in (*strange, known)]
        rows.tell(pen, events)
        if more:
            pen.at_ms = envelope.at_ms
            rows.tell(pen, [UNKNOWN])
    return {name: [plain(row) for row in rows.of(name)] for name in rows.tables}


def plain(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in MOVING | {"head"}}
