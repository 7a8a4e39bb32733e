"""The test cases of applications and projections of the library, on a real server."""

from typing import Any, ClassVar

import pytest
from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.tests import application, projection

from eventlog.recorders.jetstream import JetStreamProcessRecorder
from tests.contract.recorders.base import OnJetStream

pytestmark = pytest.mark.broker


class CountersView(JetStreamProcessRecorder, projection.EventCountersView):
    """Counts as versions of two originators: each is stored together with its tracking."""

    def get_created_event_counter(self) -> int:
        return self._count("created")

    def get_subsequent_event_counter(self) -> int:
        return self._count("subsequent")

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self._one_more("created", tracking)

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self._one_more("subsequent", tracking)

    def _count(self, name: str) -> int:
        newest = self.select_events(name, desc=True, limit=1)
        return newest[0].originator_version if newest else 0

    def _one_more(self, name: str, tracking: Tracking) -> None:
        counted = StoredEvent(name, self._count(name) + 1, "counted", b"")
        self.insert_events([counted], tracking=tracking)


class TestExampleApplication(OnJetStream, application.ExampleApplicationTestCase):
    expected_factory_topic = "eventlog.recorders.jetstream:JetStreamFactory"


@pytest.mark.filterwarnings("default:'log' is deprecated:DeprecationWarning")
class TestApplication(OnJetStream, application.ApplicationTestCase):
    pass


class TestEventCountersView(OnJetStream, projection.EventCountersViewTestCase):
    def construct_event_counters_view(self) -> projection.EventCountersView:
        view = self.made().tracking_recorder(CountersView)
        assert isinstance(view, CountersView)
        return view


class TestAggregateEventCountersProjection(
    OnJetStream, projection.AggregateEventCountersProjectionTestCase
):
    view_class: type[projection.EventCountersView] = CountersView
    env: ClassVar[dict[str, str]] = {}


class TestEventSourcedProjection(OnJetStream, projection.EventSourcedProjectionTestCase):
    env: ClassVar[dict[str, str]] = {}


def test_every_public_test_case_of_applications_and_projections_is_run_here() -> None:
    """`TaggedDecisionCounters...` is about another kind of recorder, without aggregates."""
    offered = {
        name
        for module in (application, projection)
        for name in vars(module)
        if name.endswith("TestCase") and name != "TestCase"
    }
    kinds: list[Any] = [kind for kind in globals().values() if isinstance(kind, type)]
    run = {base.__name__ for kind in kinds for base in kind.__mro__}
    assert offered - run == {"TaggedDecisionCountersProjectionTestCase"}
