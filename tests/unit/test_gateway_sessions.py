"""Sessions of browsers: what a cookie is worth, and for how long. Not over HTTP."""

import asyncio
import base64
import json

import pytest

from domain.errors import Unavailable
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.auth.sessions import SESSION_MS, SIGNING_AGE_S, Session, Sessions
from tests.support.credentials import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backbone(clock: Clock) -> Backbone:
    return MemoryServer(now_ms=clock.ms).backbone()


def sessions_of(backbone: Backbone, clock: Clock) -> Sessions:
    return Sessions(backbone.registry, now_ms=clock.ms, now_s=clock.s)


def session_of(sessions: Sessions, **changes: object) -> Session:
    facts = {
        "made_from": "key",
        "of": "0123",
        "tenant": "acme",
        "name": "key:ci",
        "role": "viewer",
        "expires_at_ms": sessions.ends_ms(None),
    }
    return Session.model_validate(facts | changes)


async def test_a_cookie_of_one_gateway_is_good_at_another(backbone: Backbone, clock: Clock) -> None:
    here, there = sessions_of(backbone, clock), sessions_of(backbone, clock)
    session = session_of(here, experts=("coder",))
    assert await there.open(await here.seal(session)) == session


async def test_two_gateways_that_begin_at_once_sign_alike(backbone: Backbone, clock: Clock) -> None:
    all_of_them = [sessions_of(backbone, clock) for _ in range(8)]
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(one.seal(session_of(one))) for one in all_of_them]
    assert len({one.result() for one in made}) == 1
    assert len(await backbone.registry.list("session")) == 1


async def test_a_session_ends_after_a_while_or_with_what_it_was_made_from(
    backbone: Backbone, clock: Clock
) -> None:
    sessions = sessions_of(backbone, clock)
    value = await sessions.seal(session_of(sessions))
    clock.pass_by(SESSION_MS / 1_000 - 1)
    assert await sessions.open(value) is not None
    clock.pass_by(1)
    assert await sessions.open(value) is None
    assert sessions.ends_ms(clock.ms() + 5) == clock.ms() + 5
    assert sessions.ends_ms(clock.ms() + 10 * SESSION_MS) == clock.ms() + SESSION_MS


async def test_a_cookie_that_was_changed_in_any_character_is_worth_nothing(
    backbone: Backbone, clock: Clock
) -> None:
    sessions = sessions_of(backbone, clock)
    value = await sessions.seal(session_of(sessions))
    for at in range(len(value)):
        other = "A" if value[at] != "A" else "B"
        assert await sessions.open(value[:at] + other + value[at + 1 :]) is None
    for wrong in ("", ".", value[:-1], value + "A", value + "=", f"{value}.x", "ä.ä", "a" * 9_000):
        assert await sessions.open(wrong) is None


async def test_nobody_signs_for_himself(backbone: Backbone, clock: Clock) -> None:
    sessions = sessions_of(backbone, clock)
    value = await sessions.seal(session_of(sessions))
    body, _, signature = value.partition(".")
    facts = json.loads(base64.urlsafe_b64decode(body + "=="))
    raised = base64.urlsafe_b64encode(json.dumps(facts | {"role": "admin"}).encode()).rstrip(b"=")
    assert await sessions.open(f"{raised.decode()}.{signature}") is None
    mark = await sessions.mark("a token")
    assert await sessions.open(f"{body}.{mark}") is None


async def test_when_the_signing_value_is_removed_all_sessions_are_over(
    backbone: Backbone, clock: Clock
) -> None:
    sessions = sessions_of(backbone, clock)
    value = await sessions.seal(session_of(sessions))
    there = sessions_of(backbone, clock)
    assert await there.open(value) is not None
    await sessions.end_all()
    assert await sessions.open(value) is None
    clock.pass_by(SIGNING_AGE_S)
    assert await there.open(value) is None
    later = await sessions.seal(session_of(sessions))
    assert later != value
    assert await sessions.open(later) is not None
    assert await sessions.open(value) is None


async def test_before_there_ever_was_a_session_a_cookie_is_worth_nothing(
    backbone: Backbone, clock: Clock
) -> None:
    sessions = sessions_of(backbone, clock)
    assert await sessions.open("e30.e30") is None
    assert await backbone.registry.list("session") == []


async def test_bad_cookies_do_not_ask_the_registry_again_and_again(
    clock: Clock,
) -> None:
    server = MemoryServer(now_ms=clock.ms)
    sessions = sessions_of(server.backbone(), clock)
    assert await sessions.open("e30.e30") is None
    server.stop()
    for _ in range(20):
        assert await sessions.open("e30.e30") is None  # nobody was asked: the answer is known
    clock.pass_by(SIGNING_AGE_S)
    with pytest.raises(Unavailable):
        await sessions.open("e30.e30")
    server.start()
    assert await sessions.open(await sessions.seal(session_of(sessions))) is not None
