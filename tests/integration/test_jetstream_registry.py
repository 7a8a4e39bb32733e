"""REGISTRY on a real server where it differs from the in-memory form. Not what both promise."""

import pytest

from domain.errors import Unavailable
from eventlog.jetstream.api import call
from eventlog.jetstream.connection import Link
from eventlog.jetstream.registry import JetStreamRegistry
from eventlog.newest import Entry
from tests.integration.deployment import replicated

pytestmark = [pytest.mark.anyio, pytest.mark.broker]


async def registry_of(link: Link, replicas: int) -> JetStreamRegistry:
    """The port as a deployment with so many replicas has it, over a stream with one."""
    return JetStreamRegistry(*await replicated(link, "REGISTRY", replicas))


@pytest.mark.parametrize("replicas", [1, 3])
async def test_all_values_are_read_whoever_answers(link: Link, replicas: int) -> None:
    registry = await registry_of(link, replicas)
    assert await registry.list("key") == []
    first = await registry.put("key", "acme", "one", b"\x00one", expected=0)
    second = await registry.put("key", "umbrella", "two", b"", expected=0)
    third = await registry.put("key", "acme", "one", b"new", expected=first)
    one = Entry("key", "acme", "one", third, b"new")
    assert await registry.list("key") == [Entry("key", "umbrella", "two", second, b""), one]
    assert await registry.list("key", "acme") == [one]
    await registry.remove("key", "acme", "one")
    assert await registry.list("key", "acme") == []


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_stream_that_is_not_there_is_no_empty_registry(link: Link, replicas: int) -> None:
    registry = await registry_of(link, replicas)
    await registry.put("key", "acme", "one", b"one", expected=0)
    await call(link, "STREAM.DELETE.PERITUS_REGISTRY")
    with pytest.raises(Unavailable):
        await registry.list("key")
    with pytest.raises(Unavailable):
        await registry.get("key", "acme", "one")
    await registry.put("key", "acme", "two", b"two", expected=0)
    assert [entry.name for entry in await registry.list("key")] == ["two"]


async def test_values_are_on_disk_one_a_name(link: Link) -> None:
    await registry_of(link, 1)
    config = (await call(link, "STREAM.INFO.PERITUS_REGISTRY"))["config"]
    assert (config["storage"], config["max_msgs_per_subject"]) == ("file", 1)
    assert config["subjects"] == ["peritus.reg.>"]
    assert not config.get("max_age")
