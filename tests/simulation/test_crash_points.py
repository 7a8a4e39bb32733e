"""A crash before and after every append, publish, ack and answer of one job (C3, C4, C7, C16)."""

import logging
from collections.abc import Iterator

import pytest

from eventlog.memory import FaultPoint as Point
from peritus.simulation.crashes import JOURNAL, SHAPES, crash

pytestmark = pytest.mark.faults

POINTS = (
    Point.APPEND,
    Point.BLOB_PUT,
    Point.OPEN_ADD,
    Point.OPEN_REMOVE,
    Point.WORK_PUT,
    Point.WORK_DELIVER,
    Point.WORK_ACK,
    Point.COMMAND_PUT,
    Point.COMMAND_PUT_AT,
    Point.COMMAND_DELIVER,
    Point.COMMAND_ACK,
    Point.REQUEST,
    Point.REPLY,
    Point.LIMIT_NOTE,
    JOURNAL,
)

PASSAGES_MAX = 100

UNUSED = {
    ("alone", Point.WORK_PUT),
    ("alone", Point.WORK_DELIVER),
    ("alone", Point.WORK_ACK),
    ("alone", Point.REQUEST),
    ("queued", Point.REQUEST),
}
"""What a deployment has no use for: work handed over in the process needs no queue."""

MOVED = ("append", "blob_put", JOURNAL)
"""Where a worker is killed whose disk is lost with it: what the others do is tried above."""

CASES = [
    (shape, point) for shape in SHAPES for point in POINTS if shape != "moved" or point in MOVED
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Crashes are the point here: what workers log about them is noise."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("shape", "point"), CASES)
def test_a_crash_at_any_passage_of_a_point_loses_and_repeats_nothing(
    shape: str, point: str, when: str
) -> None:
    passages = 0
    for occurrence in range(1, PASSAGES_MAX):
        problems = crash(shape, point, after=when == "after", occurrence=occurrence)
        if problems is None:
            break
        assert problems == [], f"at passage {occurrence}"
        passages += 1
    assert (passages == 0) == ((shape, point) in UNUSED)
