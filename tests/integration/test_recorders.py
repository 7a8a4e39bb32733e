"""Recorders on JetStream beyond the library's own cases: limits, races, kills, names, settings."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import active_count
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    DataError,
    InfrastructureFactoryError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.utils import Environment

from eventlog.jetstream.ledger import escaped, unescaped
from eventlog.recorders.entries import entry_of
from eventlog.recorders.jetstream import JetStreamFactory
from tests.integration.deployment import TOKEN, JetStreamDeployment
from tests.integration.recorder_world import Followed, World, make_world

pytestmark = pytest.mark.broker

SOME_ID = UUID("0b5e3f0a-6a3c-4b39-9a55-000000000001")


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    made = make_world(tmp_path / "nats")
    yield made
    made.hosted.close()


@pytest.fixture
def factory(world: World) -> Generator[JetStreamFactory]:
    made = JetStreamFactory(Environment("Orders", world.env()))
    yield made
    made.close()


def event(version: int, originator: str = "a", state: bytes = b"s") -> StoredEvent:
    return StoredEvent(originator, version, "topic", state)


def events(count: int, first: int = 1) -> list[StoredEvent]:
    return [event(version) for version in range(first, first + count)]


def test_an_application_is_configured_by_its_environment_alone(world: World) -> None:
    env = {**world.env(), "PERSISTENCE_MODULE": "eventlog.recorders.jetstream"}
    app = Application[Any](env)
    aggregate = Aggregate()
    aggregate.trigger_event(Aggregate.Event)
    app.save(aggregate)
    app.close()
    again = Application[Any](env)
    assert again.repository.get(aggregate.id) == aggregate
    assert again.recorder.max_notification_id() == 2
    again.close()


@pytest.mark.parametrize(
    "originator",
    ["acme/job 1/run.x", "*", ">", "", "ünï🐈", "a_b", "=41", str(SOME_ID), SOME_ID],
)
def test_any_originator_and_topic_comes_back_as_it_was(
    factory: JetStreamFactory, originator: Any
) -> None:
    recorder = factory.application_recorder()
    stored = StoredEvent(
        originator, 1, "a topic: ü, 100% of\r\nNats-Rollup: all", bytes(range(256))
    )
    recorder.insert_events([stored])
    assert recorder.select_events(originator) == [stored]
    assert recorder.select_events(originator, desc=True, limit=1) == [stored]
    found = recorder.select_notifications(None, 10)[0]
    assert (found.originator_id, found.topic, found.state) == (
        originator,
        stored.topic,
        stored.state,
    )


def test_names_are_tokens_and_no_two_are_the_same() -> None:
    names = ["", "=", "==", "a", "A", "a.b", "a_b", "a b", "=41", "ü", "*", ">"]
    assert [unescaped(escaped(name)) for name in names] == names
    assert len({escaped(name) for name in names}) == len(names)


def test_applications_with_alike_names_have_streams_of_their_own(world: World) -> None:
    for name in ("a", "A", "a_b", "a.b", "a b"):
        factory = JetStreamFactory(Environment(name, world.env()))
        recorder = factory.application_recorder()
        assert recorder.insert_events([event(1)]) == [1]
        assert recorder.max_notification_id() == 1
        factory.close()


def test_more_than_a_server_stores_at_once_is_refused_whole(factory: JetStreamFactory) -> None:
    recorder = factory.process_recorder()
    with pytest.raises(DataError, match="at most 1000"):
        recorder.insert_events(events(1001))
    with pytest.raises(DataError, match="at most 1000"):
        recorder.insert_events(events(1000), tracking=Tracking("up", 1))
    assert recorder.max_notification_id() is None
    assert recorder.max_tracking_id("up") is None
    assert recorder.insert_events(events(999), tracking=Tracking("up", 1)) == list(range(1, 1000))
    assert recorder.insert_events(events(1000, 1000)) == list(range(1001, 2001))
    assert [one.originator_version for one in recorder.select_events("a")] == list(range(1, 2000))


def test_one_too_large_event_keeps_all_out(factory: JetStreamFactory) -> None:
    recorder = factory.application_recorder()
    with pytest.raises(DataError, match="above the limit"):
        recorder.insert_events([event(1), event(2, state=bytes(9_000_000)), event(3)])
    assert recorder.select_events("a") == []
    assert recorder.insert_events(events(2)) == [1, 2]


def test_of_many_who_insert_the_same_version_one_does(factory: JetStreamFactory) -> None:
    recorder = factory.application_recorder()

    def insert(number: int) -> int:
        try:
            recorder.insert_events([event(1, state=b"%d" % number), event(2)])
        except IntegrityError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(insert, range(24))) == 1
    assert len(recorder.select_events("a")) == 2


def test_of_many_who_track_the_same_notification_one_does(factory: JetStreamFactory) -> None:
    recorder = factory.process_recorder()

    def process(number: int) -> int:
        try:
            recorder.insert_events([event(1, f"o{number}")], tracking=Tracking("up", 7))
        except IntegrityError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(process, range(24))) == 1
    assert len(recorder.select_notifications(None, 100)) == 1
    assert recorder.max_tracking_id("up") == 7


def test_a_version_below_the_last_is_refused_even_if_it_is_not_there(
    factory: JetStreamFactory,
) -> None:
    recorder = factory.aggregate_recorder()
    recorder.insert_events([event(5)])
    with pytest.raises(IntegrityError, match="at version 5 already"):
        recorder.insert_events([event(3)])
    recorder.insert_events([event(9)])
    assert [one.originator_version for one in recorder.select_events("a", gt=5)] == [9]


def test_ids_of_a_process_recorder_have_gaps_where_trackings_are(
    factory: JetStreamFactory,
) -> None:
    """Sequences are of the stream, and a tracking is a message, too."""
    recorder = factory.process_recorder()
    assert recorder.insert_events([event(1), event(2)], tracking=Tracking("up", 1)) == [1, 2]
    assert recorder.insert_events([event(3)], tracking=Tracking("up", 2)) == [4]
    assert [one.id for one in recorder.select_notifications(None, 10)] == [1, 2, 4]


def test_only_the_newest_tracking_of_an_application_is_kept(factory: JetStreamFactory) -> None:
    recorder = factory.tracking_recorder()
    for number in range(1, 6):
        recorder.insert_tracking(Tracking("up", number))
    recorder.insert_tracking(Tracking("other", 1))
    kept, more = recorder._do(lambda ledger: ledger.after(">", 0, 10))  # pyright: ignore[reportPrivateUsage]
    assert [one.data for one in kept] == [b"5", b"1"]
    assert not more


def test_tracking_without_a_process_recorder_is_not_dropped(factory: JetStreamFactory) -> None:
    with pytest.raises(ProgrammingError, match="process recorder"):
        factory.application_recorder().insert_events([event(1)], tracking=Tracking("up", 1))


def test_what_was_inserted_outlives_a_kill_of_the_server_and_is_followed_on(
    world: World, factory: JetStreamFactory
) -> None:
    recorder = factory.process_recorder()
    followed = Followed(recorder.subscribe())
    recorder.insert_events(events(3), tracking=Tracking("up", 1))
    assert len(list(followed.take(3))) == 3
    world.do(lambda deployment: deployment.restart())
    assert recorder.max_tracking_id("up") == 1
    recorder.insert_events([event(4)])
    assert [one.originator_version for one in followed.take(1)] == [4]
    assert followed.end() is None


def test_a_lost_answer_says_that_it_may_be_stored_and_inserting_again_tells(
    world: World, factory: JetStreamFactory
) -> None:
    recorder = factory.application_recorder()
    entry = entry_of(recorder._ledger, event(1), after=0)  # pyright: ignore[reportPrivateUsage]

    async def freeze(deployment: JetStreamDeployment) -> None:
        deployment.freeze()

    async def thaw(deployment: JetStreamDeployment) -> None:
        deployment.thaw()

    world.do(freeze)
    with pytest.raises(OperationalError, match="may be stored"):
        recorder._do(lambda ledger: ledger.append([entry]))  # pyright: ignore[reportPrivateUsage]
    world.do(thaw)
    with pytest.raises(IntegrityError, match="at version 1 already"):
        recorder.insert_events([event(1)])
    assert recorder.select_events("a") == [event(1)]


def test_an_insert_that_was_never_sent_can_be_made_again(
    world: World, factory: JetStreamFactory
) -> None:
    recorder = factory.application_recorder()
    world.do(lambda deployment: deployment.stop())
    with pytest.raises(OperationalError):
        recorder.insert_events([event(1)])
    world.do(lambda deployment: deployment.start())
    assert recorder.insert_events([event(1)]) == [1]


def test_a_server_that_is_not_there_is_named(world: World) -> None:
    env = world.env(JETSTREAM_URL="nats://127.0.0.1:9", JETSTREAM_CONNECT_S="0.3")
    with pytest.raises(OperationalError, match=r"cannot connect to nats://127\.0\.0\.1:9"):
        JetStreamFactory(env).application_recorder()


def test_a_weak_server_is_refused_with_what_to_change(world: World) -> None:
    factory = JetStreamFactory(world.env(JETSTREAM_DURABILITY="os"))
    with pytest.raises(ProgrammingError, match="sync_interval: always"):
        factory.application_recorder()
    factory.close()


def test_wrong_settings_are_named_all_at_once() -> None:
    with pytest.raises(InfrastructureFactoryError, match=r"JETSTREAM_URL.*JETSTREAM_REPLICAS"):
        JetStreamFactory({"JETSTREAM_REPLICAS": "nine"})
    with pytest.raises(InfrastructureFactoryError) as wrong:
        JetStreamFactory({"JETSTREAM_URL": "secret-in-a-url", "JETSTREAM_TOKEN": TOKEN})
    assert "secret-in-a-url" not in str(wrong.value)
    assert TOKEN not in str(wrong.value)


def test_streams_are_not_made_where_tables_are_not(world: World) -> None:
    factory = JetStreamFactory(world.env(CREATE_TABLE="n"))
    with pytest.raises(OperationalError, match="stream not found"):
        factory.application_recorder()
    factory.close()


def test_a_closed_factory_leaves_no_thread_and_says_so(world: World) -> None:
    before = active_count()
    factory = JetStreamFactory(world.env())
    recorder = factory.application_recorder()
    subscription = recorder.subscribe()
    assert active_count() == before + 1
    factory.close()
    assert active_count() == before
    with pytest.raises(InterfaceError, match="closed"):
        recorder.insert_events([event(1)])
    with pytest.raises(InterfaceError, match="closed"):
        next(subscription)


def test_a_forgotten_factory_ends_its_thread(world: World) -> None:
    factory = JetStreamFactory(world.env())
    hosted = factory.application_recorder()._hosted  # pyright: ignore[reportPrivateUsage]
    thread = hosted._thread  # pyright: ignore[reportPrivateUsage]
    assert thread.is_alive()
    del factory, hosted
    thread.join(20)
    assert not thread.is_alive()
