"""BLOBS on a real server as retention needs it. Not what both forms promise."""

import pytest

from eventlog.jetstream.api import call
from eventlog.jetstream.connection import Link
from eventlog.jetstream.streams import declarations
from eventlog.jetstream.subjects import Names
from eventlog.port import PAYLOAD_BYTES_MAX
from tests.integration.deployment import JetStreamDeployment

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

BLOBS = "PERITUS_BLOBS"


async def last_seq(link: Link) -> int:
    return int((await call(link, f"STREAM.INFO.{BLOBS}"))["state"]["last_seq"])


async def test_the_blobs_of_the_release_before_are_taken_over(
    link: Link, deployment: JetStreamDeployment
) -> None:
    """That one refused the second storing of a blob; nobody could tell an old one by its age."""
    declared = declarations(Names("peritus"), 1, "process")["BLOBS"]
    before = declared | {"discard": "new", "discard_new_per_subject": True}
    await call(link, f"STREAM.CREATE.{BLOBS}", before)
    async with deployment.client() as backbone:
        digest = await backbone.blobs.put("acme", b"kept")
        assert await backbone.blobs.get("acme", digest) == b"kept"
    config = (await call(link, f"STREAM.INFO.{BLOBS}"))["config"]
    assert config["discard"] == "old"
    assert not config.get("discard_new_per_subject")
    assert config["max_msgs_per_subject"] == 1


async def test_a_process_stores_the_same_blob_once(
    link: Link, deployment: JetStreamDeployment
) -> None:
    big = b"".join(b"%d" % i for i in range(PAYLOAD_BYTES_MAX // 4))
    async with deployment.client() as backbone:
        for data in (b"small", big):
            await backbone.blobs.put("acme", data)
            stored = await last_seq(link)
            for _ in range(3):
                await backbone.blobs.put("acme", data)
            assert await last_seq(link) == stored
        state = (await call(link, f"STREAM.INFO.{BLOBS}"))["state"]
    async with deployment.client() as other:
        await other.blobs.put("acme", big)
    after = (await call(link, f"STREAM.INFO.{BLOBS}"))["state"]
    assert after["last_seq"] > state["last_seq"]
    assert after["messages"] == state["messages"]


async def test_what_a_process_stored_and_the_server_lost_is_stored_again(
    link: Link, deployment: JetStreamDeployment
) -> None:
    async with deployment.client() as backbone:
        digest = await backbone.blobs.put("acme", b"kept")
        await call(link, f"STREAM.PURGE.{BLOBS}")
        await backbone.blobs.put("acme", b"kept")
        assert await backbone.blobs.get("acme", digest) == b"kept"
