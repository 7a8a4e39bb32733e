"""The library's public test cases of recorders and factories, as they are, on a real server."""

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.tests import persistence
from eventsourcing.utils import Environment

from eventlog.recorders.jetstream import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamFactory,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)
from tests.contract.recorders.base import OnJetStream

pytestmark = pytest.mark.broker


class TestAggregateRecorder(OnJetStream, persistence.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.made().aggregate_recorder()


class TestApplicationRecorder(
    OnJetStream, persistence.ApplicationRecorderTestCase[JetStreamApplicationRecorder]
):
    def create_recorder(self) -> JetStreamApplicationRecorder:
        return self.made().application_recorder()

    def test_insert_subscribe(self) -> None:
        """The library offers this one under a name that is not collected."""
        self.optional_test_insert_subscribe()


class TestNonInterleavingNotificationIDs(
    OnJetStream, persistence.NonInterleavingNotificationIDsBaseCase
):
    def create_recorder(self) -> ApplicationRecorder:
        return self.made().application_recorder()


class TestTrackingRecorder(OnJetStream, persistence.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.made().tracking_recorder()


class TestProcessRecorder(OnJetStream, persistence.ProcessRecorderTestCase):
    def create_recorder(self) -> ProcessRecorder:
        return self.made().process_recorder()


class TestProcessRecorderAsApplicationRecorder(
    OnJetStream, persistence.ApplicationRecorderTestCase[JetStreamProcessRecorder]
):
    """A process recorder that keeps no trackings numbers events like an application's."""

    def create_recorder(self) -> JetStreamProcessRecorder:
        return self.made().process_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class Tracked(JetStreamTrackingRecorder):
    """A view of somebody else."""


class TestFactory(OnJetStream, persistence.InfrastructureFactoryTestCase[JetStreamFactory]):
    def prepare(self, environment: dict[str, str]) -> None:
        super().prepare(environment)
        self.env = Environment("TestCase", environment)

    def expected_factory_class(self) -> type[JetStreamFactory]:
        return JetStreamFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return JetStreamTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return Tracked

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return JetStreamProcessRecorder


def test_every_public_test_case_of_recorders_is_run_here() -> None:
    """A new one of a later release of the library is not missed."""
    offered = {
        name
        for name in vars(persistence)
        if name.endswith(("TestCase", "BaseCase")) and name != "TestCase"
    }
    about_transcoding = {"TranscoderTestCase"}
    bases = {"RecorderTestCase"}
    run = {
        base.__name__
        for kind in globals().values()
        if isinstance(kind, type) and issubclass(kind, OnJetStream)
        for base in kind.__mro__
    }
    assert offered - about_transcoding - bases <= run
    assert issubclass(JetStreamFactory, InfrastructureFactory)
