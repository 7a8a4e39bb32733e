"""LIMITS on a real server where it differs from the in-memory form. Not what both promise."""

import pytest

from domain.rate import Scope
from eventlog.jetstream.api import call
from eventlog.jetstream.connection import Link
from eventlog.jetstream.limits import JetStreamLimits
from eventlog.newest import Noted
from tests.integration.deployment import replicated

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

ONE = Scope("anthropic", "account", "model")
TWO = Scope("openai", "account", "model")


async def limits_of(link: Link, replicas: int) -> JetStreamLimits:
    """The port as a deployment with so many replicas has it, over a stream with one."""
    return JetStreamLimits(*await replicated(link, "LIMITS", replicas))


@pytest.mark.parametrize("replicas", [1, 3])
async def test_all_notes_are_read_whoever_answers(link: Link, replicas: int) -> None:
    limits = await limits_of(link, replicas)
    assert await limits.all() == {}
    first = await limits.note(ONE, b"\x00one", expected=0)
    second = await limits.note(TWO, b"", expected=0)
    third = await limits.note(ONE, b"two", expected=first)
    assert await limits.all() == {ONE: Noted(ONE, third, b"two"), TWO: Noted(TWO, second, b"")}


@pytest.mark.parametrize("replicas", [1, 3])
async def test_a_stream_that_vanished_holds_nothing_and_is_declared_again(
    link: Link, replicas: int
) -> None:
    limits = await limits_of(link, replicas)
    await limits.note(ONE, b"one", expected=0)
    await call(link, "STREAM.DELETE.PERITUS_LIMITS")
    assert await limits.all() == {}
    assert await limits.last(ONE) is None
    await call(link, "STREAM.DELETE.PERITUS_LIMITS")
    assert await limits.last(ONE) is None
    await call(link, "STREAM.DELETE.PERITUS_LIMITS")
    revision = await limits.note(ONE, b"again", expected=0)
    assert await limits.all() == {ONE: Noted(ONE, revision, b"again")}


async def test_notes_are_in_memory_one_a_scope_and_gone_after_the_longest_hold(link: Link) -> None:
    await limits_of(link, 1)
    config = (await call(link, "STREAM.INFO.PERITUS_LIMITS"))["config"]
    assert (config["storage"], config["max_msgs_per_subject"]) == ("memory", 1)
    assert config["max_age"] == 86_400 * 10**9
