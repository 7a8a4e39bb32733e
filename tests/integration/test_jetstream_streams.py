"""How streams and consumers come to be on a real server, and come back when they vanish."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.errors import IntegrityViolated
from domain.ids import RunRef
from eventlog.jetstream.api import call
from eventlog.jetstream.backbone import connect_backbone
from eventlog.jetstream.connection import Link
from eventlog.jetstream.durability import Durability, DurabilityTooWeak
from eventlog.jetstream.server_check import check_version
from eventlog.jetstream.streams import StreamMismatch, declarations, merged
from eventlog.jetstream.subjects import Names
from eventlog.port import Backbone, Delivery
from tests.integration.deployment import TOKEN, JetStreamDeployment

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

RUN = RunRef("acme", "job", "run")
BOUND_S = 20.0


async def test_every_stream_is_there_with_the_prefix_in_its_name(
    link: Link, backbone: Backbone
) -> None:
    assert await backbone.log.bounds() == (1, 0)
    listed = await call(link, "STREAM.NAMES")
    kinds = declarations(Names("peritus"), 1, "process")
    assert sorted(listed["streams"]) == sorted(f"PERITUS_{kind}" for kind in kinds)


async def test_a_stream_that_can_be_made_as_declared_is(
    link: Link, deployment: JetStreamDeployment
) -> None:
    declared = declarations(Names("peritus"), 1, "process")["DEAD"]
    await call(link, "STREAM.CREATE.PERITUS_DEAD", declared | {"max_msgs": 7, "discard": "old"})
    async with deployment.client() as backbone:
        await backbone.dead.put(RUN, b"x", "why")
    found = await call(link, "STREAM.INFO.PERITUS_DEAD")
    assert found["config"]["max_msgs"] == declared["max_msgs"]
    assert found["config"]["discard"] == "new"


async def test_a_stream_of_another_kind_is_refused_by_name(
    link: Link, deployment: JetStreamDeployment
) -> None:
    declared = declarations(Names("peritus"), 1, "process")["EVENTS"]
    await call(link, "STREAM.CREATE.PERITUS_EVENTS", declared | {"storage": "memory"})
    with pytest.raises(StreamMismatch, match="PERITUS_EVENTS"):
        async with deployment.client():
            raise NotImplementedError


def test_what_an_operator_set_higher_stays() -> None:
    found = {"num_replicas": 3, "max_consumers": -1, "max_msgs": 5, "description": "ours"}
    wanted = {"num_replicas": 1, "max_consumers": 5000, "max_msgs": 9}
    assert merged(found, wanted) == {
        "num_replicas": 3,
        "max_consumers": -1,
        "max_msgs": 9,
        "description": "ours",
    }


@pytest.mark.parametrize("kind", ["WORK", "COMMANDS"])
async def test_a_queue_whose_consumer_vanished_delivers_again(
    link: Link, backbone: Backbone, kind: str
) -> None:
    consuming = (
        backbone.work.consume("step", in_flight_max=4)
        if kind == "WORK"
        else backbone.commands.consume(in_flight_max=4)
    )
    durable = "step" if kind == "WORK" else "commands"
    async with asyncio.timeout(BOUND_S), consuming as items, asyncio.TaskGroup() as group:
        waiting = group.create_task(anext_data(items))
        await asyncio.sleep(0)
        await call(link, f"CONSUMER.DELETE.PERITUS_{kind}.{durable}")
        if kind == "WORK":
            await backbone.work.put("step", RUN, b"after")
        else:
            await backbone.commands.put(RUN, b"after")
        assert await waiting == b"after"


async def anext_data(items: AsyncIterator[Delivery]) -> bytes:
    delivery = await anext(items)
    await delivery.ack()
    return delivery.data


async def test_a_stream_that_vanished_is_declared_again_by_the_next_store(
    link: Link, backbone: Backbone
) -> None:
    for kind in ("WORK", "LEASES"):
        await call(link, f"STREAM.DELETE.PERITUS_{kind}")
    await backbone.work.put("tool", RUN, b"x")
    assert await backbone.leases.live() == {}
    assert not await backbone.leases.settled()
    await backbone.leases.renew("e1", b"me")
    assert await backbone.leases.live() == {"e1": b"me"}


async def test_a_blob_with_a_lost_part_is_an_integrity_violation(
    link: Link, backbone: Backbone
) -> None:
    data = bytes(range(256)) * 12_000
    digest = await backbone.blobs.put("acme", data)
    assert await backbone.blobs.get("acme", digest) == data
    info = await call(link, "STREAM.INFO.PERITUS_BLOBS", {"subjects_filter": ">"})
    parts = [subject for subject in info["state"]["subjects"] if subject.count(".") == 4]
    assert len(parts) == 4
    await call(link, "STREAM.PURGE.PERITUS_BLOBS", {"filter": parts[1]})
    with pytest.raises(IntegrityViolated):
        await backbone.blobs.get("acme", digest)
    assert await backbone.blobs.put("acme", data) == digest
    assert await backbone.blobs.get("acme", digest) == data


async def test_a_server_that_does_not_sync_is_refused_for_durability_os(
    deployment: JetStreamDeployment,
) -> None:
    with pytest.raises(DurabilityTooWeak, match="sync_interval: always"):
        async with connect_backbone(deployment.server.url, token=TOKEN, durability="os"):
            raise NotImplementedError


async def test_a_single_server_is_refused_for_durability_node(
    deployment: JetStreamDeployment,
) -> None:
    with pytest.raises(DurabilityTooWeak, match="cluster"):
        async with connect_backbone(deployment.server.url, token=TOKEN, durability="node"):
            raise NotImplementedError


@pytest.mark.parametrize(
    ("version", "durability", "fits"),
    [
        ((2, 12, 2), "process", False),
        ((2, 12, 3), "process", True),
        ((2, 14, 5), "os", True),
        ((2, 14, 5), "node", False),
        ((2, 15, 0), "node", True),
    ],
)
def test_old_servers_are_refused(
    version: tuple[int, int, int], durability: Durability, *, fits: bool
) -> None:
    link = Link("nats://somewhere", None, "test", 1.0, version)
    if fits:
        check_version(link, durability)
    else:
        with pytest.raises(DurabilityTooWeak):
            check_version(link, durability)
