"""All views there are, in the order they are folded. Not the folds: each has a module."""

from projections.view import AnyView
from projections.views.runs import RunsView

RUNS = RunsView()

ALL: tuple[AnyView, ...] = (RUNS,)
