"""How far each view is behind the log. Not a repair: `runner` catches up."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from projections.places import Place
from projections.view import AnyView

Condition = Literal["live", "building", "absent", "newer", "void"]
"""`newer`: of a newer release. `void`: of a log that is no more."""


@dataclass(frozen=True, slots=True)
class ViewState:
    """One view: what is read of it, and what is being built beside that."""

    view: str
    version: int
    condition: Condition
    seq: int = 0  # of the log, up to which it is
    behind: int = 0  # envelopes
    built_percent: int | None = None  # of the one that is being built
    generation: int | None = None


def states_of(
    views: Iterable[AnyView], places: Iterable[Place], incarnation: str, last_seq: int
) -> list[ViewState]:
    """Where each view is, by its places; the log ends at `last_seq`."""
    places = list(places)
    return [_state_of(view, places, incarnation, last_seq) for view in views]


def _state_of(view: AnyView, places: list[Place], incarnation: str, last_seq: int) -> ViewState:
    mine = [place for place in places if place.view == view.name]
    live = next((place for place in mine if place.role == "live"), None)
    building = next((place for place in mine if place.role == "building"), None)
    percent = None if building is None else building.percent
    if live is None or (live.version < view.version and building is not None):
        seq = 0 if building is None else building.seq
        condition: Condition = "absent" if building is None else "building"
        return ViewState(view.name, view.version, condition, seq, last_seq - seq, percent)
    if live.incarnation != incarnation:
        condition, seq = "void", 0
    else:
        condition = "live" if live.version == view.version else "newer"
        if live.version < view.version:
            condition = "absent"
        seq = live.seq
    behind = max(0, last_seq - seq)
    return ViewState(view.name, live.version, condition, seq, behind, percent, live.generation)
