"""What is said of how far views are, by their places. Not how they get there."""

import pytest

from projections.lag import ViewState, states_of
from projections.places import Place, Role
from tests.support.tally import Tally


def place(
    seq: int, *, version: int = 2, role: Role = "live", generation: int = 1, incarnation: str = "a0"
) -> Place:
    return Place("tally", generation, version, incarnation, seq, role, goal=8)


def state_of(*places: Place) -> ViewState:
    (state,) = states_of(
        [Tally(version=2)], [*places, Place("more", 9, 1, "a0", 3, "live")], "a0", 10
    )
    return state


@pytest.mark.parametrize(
    ("places", "state"),
    [
        ([], ViewState("tally", 2, "absent", 0, 10)),
        ([place(10)], ViewState("tally", 2, "live", 10, 0, None, 1)),
        ([place(7)], ViewState("tally", 2, "live", 7, 3, None, 1)),
        ([place(4, role="building")], ViewState("tally", 2, "building", 4, 6, 50)),
        (
            [place(9), place(2, role="building", generation=2)],
            ViewState("tally", 2, "live", 9, 1, 25, 1),
        ),
        (
            [place(9, version=1), place(6, role="building", generation=2)],
            ViewState("tally", 2, "building", 6, 4, 75),
        ),
        ([place(9, version=1)], ViewState("tally", 1, "absent", 9, 1, None, 1)),
        ([place(9, version=3)], ViewState("tally", 3, "newer", 9, 1, None, 1)),
        ([place(9, incarnation="b1")], ViewState("tally", 2, "void", 0, 10, None, 1)),
    ],
)
def test_a_view_is_told_as_its_places_say(places: list[Place], state: ViewState) -> None:
    assert state_of(*places) == state


def test_a_view_that_is_ahead_of_an_old_look_at_the_log_is_not_behind() -> None:
    assert state_of(place(12)).behind == 0
