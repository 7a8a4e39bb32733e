"""All views there are, in the order they are folded. Not the folds: each has a module."""

from projections.view import AnyView
from projections.views.activities import ActivitiesView
from projections.views.audit import AuditView
from projections.views.calls import CallsView
from projections.views.jobs import JobsView
from projections.views.runs import RunsView
from projections.views.search import SearchView
from projections.views.steps import StepsView
from projections.views.usage import UsageView

RUNS = RunsView()

ALL: tuple[AnyView, ...] = (
    RUNS,
    JobsView(),
    StepsView(),
    CallsView(),
    ActivitiesView(),
    UsageView(),
    SearchView(),
    AuditView(),
)
