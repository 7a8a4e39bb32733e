"""EVENTS as the library's recorder: ids, pages, topics, one run, following, refusals."""

from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from eventsourcing.application import Repository
from eventsourcing.persistence import (
    DataError,
    EventStore,
    InfrastructureFactory,
    InfrastructureFactoryError,
    InterfaceError,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    TrackingRecorder,
)
from eventsourcing.utils import Environment

from domain.events import RunPaused, StepEnded
from domain.ids import RunRef
from eventlog.library import Run, RunMapper, project_run
from eventlog.recorders.run_recorder import RunRecorder
from eventlog.recorders.runs import RunFactory, Runs
from tests.integration.recorder_world import Followed, World, envelope, make_world

pytestmark = pytest.mark.broker

ALPHA = RunRef("acme", "job1", "alpha")
BETA = RunRef("acme", "job1", "beta")
OTHER = RunRef("umbrella", "job1", "alpha")

IDS = [1024, 1025, 1026, 3072, 4096, 4097]
"""Of acme's events: `sequence * 1024 + index`; sequence 2 is another tenant's."""


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    made = make_world(tmp_path / "nats")
    yield made
    made.hosted.close()


@pytest.fixture
def factory(world: World) -> Generator[RunFactory]:
    env = world.env(PERSISTENCE_MODULE="eventlog.recorders.runs")
    made: object = InfrastructureFactory[TrackingRecorder].construct(Environment("x", env))
    assert isinstance(made, RunFactory)
    yield made
    made.close()


@pytest.fixture
def recorder(factory: RunFactory) -> RunRecorder:
    return factory.application_recorder()


def steps(*numbers: int) -> list[StepEnded]:
    return [StepEnded(step=number) for number in numbers]


def fill(world: World) -> None:
    """Seven events in four envelopes, one of them another tenant's."""
    first = world.append(ALPHA, envelope(ALPHA, 1, *steps(1, 2, 3)))
    world.append(OTHER, envelope(OTHER, 1, *steps(9)))
    world.append(ALPHA, envelope(ALPHA, 4, RunPaused(command="c")), expected_seq=first)
    world.append(BETA, envelope(BETA, 1, *steps(1, 2)))


def ids(found: Sequence[Notification]) -> list[int]:
    return [one.id for one in found]


def versions(found: Sequence[StoredEvent]) -> list[int]:
    return [one.originator_version for one in found]


def test_an_empty_log_has_no_notification_and_no_run(recorder: RunRecorder) -> None:
    assert recorder.select_notifications(None, 10) == []
    assert recorder.max_notification_id() is None
    assert recorder.select_events("acme/job1/alpha") == []


def test_ids_are_the_sequence_times_1024_and_the_index(world: World, recorder: RunRecorder) -> None:
    fill(world)
    found = recorder.select_notifications(None, 100)
    assert ids(found) == IDS
    assert recorder.max_notification_id() == IDS[-1]
    assert [one.originator_id for one in found[2:5]] == [
        "acme/job1/alpha",
        "acme/job1/alpha",
        "acme/job1/beta",
    ]
    assert versions(found) == [1, 2, 3, 4, 1, 2]
    assert {one.topic for one in found} == {"step.ended.v1", "run.paused.v1"}


@pytest.mark.parametrize("start", [None, 0, 1, 1023, *IDS, 1027, 2048, 5000])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_every_part_of_the_notifications_is_the_part_of_the_whole(
    world: World, recorder: RunRecorder, start: int | None, limit: int
) -> None:
    fill(world)
    least = start or 0
    for stop in (None, 1025, 4096):
        last = 10**6 if stop is None else stop
        wanted = [one for one in IDS if least <= one <= last][:limit]
        found = recorder.select_notifications(start, limit, stop)
        assert ids(found) == wanted
        wanted = [one for one in IDS if least < one <= last][:limit]
        found = recorder.select_notifications(start, limit, stop, inclusive_of_start=False)
        assert ids(found) == wanted


def test_topics_are_names_on_the_wire(world: World, recorder: RunRecorder) -> None:
    fill(world)
    assert ids(recorder.select_notifications(None, 10, topics=["run.paused.v1"])) == [3072]
    assert ids(recorder.select_notifications(1025, 2, topics=["step.ended.v1"])) == [1025, 1026]
    assert recorder.select_notifications(None, 10, topics=["run.dreamt.v1"]) == []


def test_events_of_a_run_are_chosen_by_version(world: World, recorder: RunRecorder) -> None:
    fill(world)
    name = "acme/job1/alpha"
    assert versions(recorder.select_events(name)) == [1, 2, 3, 4]
    assert versions(recorder.select_events(name, gt=1, lte=3)) == [2, 3]
    assert versions(recorder.select_events(name, desc=True, limit=2)) == [4, 3]
    assert versions(recorder.select_events(name, lte=2, desc=True, limit=1)) == [2]


@pytest.mark.parametrize("name", ["umbrella/job1/alpha", "acme/job1", "acme/*/alpha", "", "a b"])
def test_what_is_no_run_of_the_tenant_has_no_events(
    world: World, recorder: RunRecorder, name: str
) -> None:
    fill(world)
    assert recorder.select_events(name) == []


def test_every_tenant_is_read_where_all_are_asked_for(world: World) -> None:
    fill(world)
    factory = RunFactory(world.env(PERITUS_TENANT="*"))
    recorder = factory.application_recorder()
    assert len(recorder.select_notifications(None, 100)) == len(IDS) + 1
    assert versions(recorder.select_events("umbrella/job1/alpha")) == [1]
    factory.close()


def test_library_folds_a_run_by_its_repository(world: World, recorder: RunRecorder) -> None:
    fill(world)
    repository: Repository[str] = Repository(EventStore(RunMapper(), recorder))
    run: Run = repository.get("acme/job1/alpha", projector_func=project_run)
    assert (run.version, run.state.paused, run.state.at_ms) == (4, True, 1_004)


def test_subscription_gives_what_is_stored_and_then_what_comes(
    world: World, recorder: RunRecorder
) -> None:
    fill(world)
    followed = Followed(recorder.subscribe(gt=1025))
    assert ids(list(followed.take(4))) == IDS[2:]
    world.append(OTHER, envelope(OTHER, 2, *steps(10)), expected_seq=2)
    world.append(BETA, envelope(BETA, 3, *steps(3)), expected_seq=4)
    assert ids(list(followed.take(1))) == [6 * 1024]
    assert followed.end() is None


def test_subscription_goes_on_when_the_server_was_killed(
    world: World, recorder: RunRecorder
) -> None:
    fill(world)
    followed = Followed(recorder.subscribe())
    assert ids(list(followed.take(6))) == IDS
    world.do(lambda deployment: deployment.restart())
    world.append(BETA, envelope(BETA, 3, *steps(3)), expected_seq=4)
    assert ids(list(followed.take(1))) == [5 * 1024]
    assert followed.end() is None


def test_a_place_that_the_log_has_not_reached_is_refused(
    world: World, recorder: RunRecorder
) -> None:
    fill(world)
    assert Followed(recorder.subscribe(gt=IDS[-1])).end() is None
    with pytest.raises(ProgrammingError, match="made anew"):
        recorder.subscribe(gt=IDS[-1] + 1)


def test_runs_cannot_be_written(world: World, factory: RunFactory, recorder: RunRecorder) -> None:
    fill(world)
    event = recorder.select_events("acme/job1/alpha")[0]
    with pytest.raises(ProgrammingError, match="only a decision of a loop appends"):
        recorder.insert_events([event])
    with pytest.raises(ProgrammingError, match="MYVIEW_PERSISTENCE_MODULE"):
        factory.tracking_recorder()
    with pytest.raises(ProgrammingError, match="MYVIEW_PERSISTENCE_MODULE"):
        factory.process_recorder()
    with pytest.raises(ProgrammingError, match="IS_SNAPSHOTTING_ENABLED"):
        factory.aggregate_recorder("snapshots")
    assert recorder.max_notification_id() == IDS[-1]


def test_a_damaged_run_is_refused(world: World, recorder: RunRecorder) -> None:
    world.append(ALPHA, envelope(ALPHA, 1, *steps(1)))
    world.append(ALPHA, envelope(ALPHA, 3, *steps(3)), expected_seq=1)
    world.append(BETA, b"not json")
    with pytest.raises(DataError, match="no version 2"):
        recorder.select_events("acme/job1/alpha")
    with pytest.raises(DataError, match="not an envelope"):
        recorder.select_events("acme/job1/beta")


def test_an_envelope_with_more_events_than_ids_is_refused(
    world: World, recorder: RunRecorder
) -> None:
    world.append(ALPHA, envelope(ALPHA, 1, *steps(*range(1024))))
    assert recorder.max_notification_id() == 1024 + 1023
    world.append(BETA, envelope(BETA, 1, *steps(*range(1025))))
    with pytest.raises(DataError, match="has 1025 events"):
        recorder.select_notifications(3000, 10)


def test_many_envelopes_are_read_page_by_page(world: World, recorder: RunRecorder) -> None:
    seq = 0
    for version in range(1, 1203):
        seq = world.append(ALPHA, envelope(ALPHA, version, *steps(version)), expected_seq=seq)
    assert len(recorder.select_notifications(None, 5000)) == 1202
    assert len(recorder.select_notifications(None, 5000, topics=["step.ended.v1"])) == 1202
    followed = Followed(recorder.subscribe(gt=1024))
    assert versions(list(followed.take(1201))) == list(range(2, 1203))
    assert followed.end() is None


def test_a_closed_recorder_says_so(factory: RunFactory, recorder: RunRecorder) -> None:
    factory.close()
    factory.close()
    with pytest.raises(InterfaceError, match="closed"):
        recorder.max_notification_id()


def test_application_of_runs_reads_the_settings_of_peritus(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(world)
    for name, value in world.env(PERSISTENCE_MODULE="eventsourcing.popo").items():
        monkeypatch.setenv(name, value)
    with Runs() as runs:
        assert runs.run("acme", "job1", "alpha", version=2).version == 2
        assert [one.id for one in runs.notification_log.select(1026, 2)] == [1026, 3072]


def test_wrong_settings_are_named(world: World) -> None:
    with pytest.raises(InfrastructureFactoryError, match="PERITUS_TENANT"):
        RunFactory(world.env(PERITUS_TENANT="a.b"))
    with pytest.raises(OperationalError, match="stream not found"):
        RunFactory(world.env(PERITUS_PREFIX="nobody")).application_recorder()
