"""Webhooks are told in order, each event at least once, and none is left out. Not the HTTP."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from domain.envelope import decode
from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from eventlog.memory import CrashAt, Crashed, FaultPoint
from eventlog.port import Backbone
from gateway.webhooks.hooks import Hook, Hooks, Kept
from gateway.webhooks.sender import Patience, Sender
from gateway.webhooks.signing import DELIVERY, EVENT, SIGNATURE
from tests.contract.deployment import until
from tests.support.office import Office, office
from tests.support.runs import goes_on, replies

pytestmark = pytest.mark.anyio

ROOT = RunRef("acme", "j1", "j1")
OTHER = RunRef("umbrella", "j1", "j1")
BOUND_S = 20
QUICK = Patience(poll_s=0.005, look_s=0.01, retry_s=0.002, retry_max_s=0.01)


@dataclass
class Receiver:
    """What a program at the other end gets, and how it answers."""

    answers: list[int | str] = field(default_factory=list[int | str])  # else 200
    got: list[tuple[str, Mapping[str, str], bytes]] = field(
        default_factory=list[tuple[str, Mapping[str, str], bytes]]
    )
    tried: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.tried += 1
        self.news.set()
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, str):
            raise Unavailable(answer)
        if answer == 200:
            self.got.append((url, headers, body))
        return answer

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not holds():
                self.news.clear()
                await self.news.wait()

    @property
    def ids(self) -> list[str]:
        return [headers[DELIVERY] for _, headers, _ in self.got]

    @property
    def types(self) -> list[str]:
        return [headers[EVENT] for _, headers, _ in self.got]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [orjson.loads(body) for _, _, body in self.got]


def hooks(desk: Office, backbone: Backbone | None = None) -> Hooks:
    return Hooks(backbone or desk.backbone, now_ms=desk.now_ms, plain=True)


def sender(
    desk: Office, receiver: Receiver, holder: str = "s1", backbone: Backbone | None = None
) -> Sender:
    ports = backbone or desk.backbone
    return Sender(ports, hooks(desk, ports), receiver, holder, desk.now_ms, lambda: 0.5, QUICK)


async def hook_of(desk: Office, *types: str, tenant: str = "acme") -> Hook:
    return await hooks(desk).create(tenant, "https://example.com/in", types, "ada")


async def worked(desk: Office, ref: RunRef = ROOT) -> None:
    await desk.start(ref)
    await desk.tell(ref, replies("done"))


def events_of(desk: Office, ref: RunRef = ROOT) -> list[tuple[str, str]]:
    """Cursor and type of every event of a run."""
    return [
        (f"a0-{stored.seq}-{index}", event.type)
        for stored in desk.server.log.all
        if stored.ref == ref
        for index, event in enumerate(decode(stored.data).events)
    ]


async def kept(desk: Office, hook: Hook) -> Kept:
    found = await hooks(desk).get(hook.tenant, hook.id)
    assert found is not None
    return found


async def disabled(desk: Office, hook: Hook) -> bool:
    return bool((await kept(desk, hook)).place.disabled)


async def idle(one: Sender) -> bool:
    return not one._tasks  # pyright: ignore[reportPrivateUsage]


async def tells(one: Sender, receiver: Receiver, holds: Callable[[], bool]) -> None:
    """Let a sender work until something is so."""
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(one.run())
        await receiver.until(holds)
        working.cancel()


async def test_every_event_since_it_was_made_comes_once_in_order_and_signed() -> None:
    desk, receiver = office(), Receiver()
    await worked(desk)
    before = len(events_of(desk))
    hook = await hook_of(desk)
    await desk.tell(ROOT, goes_on(), replies("more"))
    await worked(desk, OTHER)
    wanted = events_of(desk)[before:]
    await tells(sender(desk, receiver), receiver, lambda: len(receiver.got) >= len(wanted))
    assert list(zip(receiver.ids, receiver.types, strict=True)) == wanted
    first = receiver.told[0]
    assert first.keys() == {"run", "job", "expert", "parent", "version", "at_ms", "event"}
    assert (first["run"], first["expert"], first["event"]["type"]) == ("j1", "boss", wanted[0][1])
    assert [one["version"] for one in receiver.told] == sorted(
        one["version"] for one in receiver.told
    )
    for url, headers, body in receiver.got:
        assert url == "https://example.com/in"
        at, signed = headers[SIGNATURE].removeprefix("t=").split(",v1=")
        key = hook.secret.encode()
        assert signed == hmac.new(key, f"{at}.".encode() + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("wanted", ["run.completed", "run.completed.v2", "run.comp", "step."])
async def test_only_wanted_events_come(wanted: str) -> None:
    desk, receiver = office(), Receiver()
    await hook_of(desk, wanted, "run.started")
    await worked(desk)
    last = {"run.comp": "run.started.v2", "step.": "step.ended.v1"}.get(wanted, "run.completed.v2")
    await tells(sender(desk, receiver), receiver, lambda: last in receiver.types)
    assert receiver.types == list(dict.fromkeys(["run.started.v2", last]))


@pytest.mark.parametrize("after", [False, True], ids=["before it is stored", "after"])
async def test_a_sender_that_dies_after_a_delivery_delivers_it_again_under_the_same_id(
    *, after: bool
) -> None:
    desk, receiver = office(), Receiver()
    await hook_of(desk)
    await worked(desk)
    wanted = [cursor for cursor, _ in events_of(desk)]
    hook = CrashAt(FaultPoint.REGISTRY_PUT, occurrence=3, after=after)  # the second delivery's
    dying = sender(desk, receiver, "s1", desk.server.ports(desk.server.client(hook=hook)))
    with pytest.raises(BaseExceptionGroup) as died:
        await dying.run()
    assert died.group_contains(Crashed)
    assert receiver.ids == wanted[:2]
    desk.now += 60_000
    await tells(sender(desk, receiver, "s2"), receiver, lambda: receiver.ids[-1] == wanted[-1])
    again = [] if after else [wanted[1]]
    assert receiver.ids == [*wanted[:2], *again, *wanted[2:]]


@pytest.mark.parametrize("wrong", [500, 404, 302, "it takes no connection"])
async def test_what_is_not_received_is_tried_again_and_nothing_overtakes_it(
    wrong: int | str,
) -> None:
    desk, receiver = office(), Receiver([wrong] * 4 + [200, wrong])
    hook = await hook_of(desk)
    await worked(desk)
    wanted = [cursor for cursor, _ in events_of(desk)]
    one = sender(desk, receiver)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(one.run())
        await receiver.until(lambda: receiver.tried == 4)
        place = (await kept(desk, hook)).place
        assert place.failures in (3, 4)
        assert place.problem == str(wrong)
        await receiver.until(lambda: len(receiver.got) == len(wanted))
        working.cancel()
    assert receiver.ids == wanted
    assert receiver.tried == len(wanted) + 5


async def test_a_hook_that_fails_for_too_long_is_disabled_and_can_go_on_where_it_was() -> None:
    desk, receiver = office(), Receiver([500] * 1_000)
    hook = await hook_of(desk)
    await worked(desk)
    wanted = [cursor for cursor, _ in events_of(desk)]
    one = sender(desk, receiver)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(one.run())
        await receiver.until(lambda: receiver.tried > 3)
        assert not (await kept(desk, hook)).place.disabled
        desk.now += 90_000_000
        await until(lambda: disabled(desk, hook))
        tried = receiver.tried
        working.cancel()
    found = await kept(desk, hook)
    assert found.place.disabled == "500"
    receiver.answers.clear()
    await hooks(desk).enable(found)
    await tells(sender(desk, receiver), receiver, lambda: len(receiver.got) == len(wanted))
    assert receiver.ids == wanted
    assert tried < 1_000


async def test_a_receiver_that_says_gone_is_told_nothing_more() -> None:
    desk, receiver = office(), Receiver([200, 410])
    hook = await hook_of(desk)
    await worked(desk)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(sender(desk, receiver).run())
        await until(lambda: disabled(desk, hook))
        working.cancel()
    assert (receiver.tried, len(receiver.got)) == (2, 1)


async def test_two_senders_tell_a_hook_once_and_the_other_takes_over_from_a_dead_one() -> None:
    desk, first, second = office(), Receiver(), Receiver()
    await hook_of(desk)
    await worked(desk)
    wanted = [cursor for cursor, _ in events_of(desk)]
    both = Receiver()

    async def heard(name: Receiver, url: str, headers: Mapping[str, str], body: bytes) -> int:
        await name(url, headers, body)
        return await both(url, headers, body)

    one, other = sender(desk, first, "s1"), sender(desk, second, "s2")
    one.post = lambda url, headers, body: heard(first, url, headers, body)
    other.post = lambda url, headers, body: heard(second, url, headers, body)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(some.run()) for some in (one, other)]
        await both.until(lambda: len(both.got) == len(wanted))
        assert both.ids == wanted
        assert [] in (first.got, second.got)
        working[0 if first.got else 1].cancel()
        await desk.tell(ROOT, goes_on(), replies("more"))
        desk.now += 60_000
        wanted = [cursor for cursor, _ in events_of(desk)]
        await both.until(lambda: len(both.got) == len(wanted))
        for task in working:
            task.cancel()
    assert both.ids == wanted
    assert first.got
    assert second.got


async def test_an_overtaken_sender_stops_at_its_next_delivery() -> None:
    """It stood still for longer than its lease: at most what it was at comes twice."""
    desk, receiver = office(), Receiver()
    hook = await hook_of(desk)
    await worked(desk)
    wanted = [cursor for cursor, _ in events_of(desk)]

    async def stands_still(url: str, headers: Mapping[str, str], body: bytes) -> int:
        if len(receiver.got) == 1:
            place = (await kept(desk, hook)).place.model_copy(update={"holder": "s2"})
            await hooks(desk).move(await kept(desk, hook), place)
        return await receiver(url, headers, body)

    one = sender(desk, receiver)
    one.post = stands_still
    turn_over = len(wanted)
    await tells(one, receiver, lambda: len(receiver.got) == 2)
    assert receiver.ids == wanted[:2]
    desk.now += 60_000
    one.post = receiver
    await tells(sender(desk, receiver, "s2"), receiver, lambda: len(receiver.got) == turn_over + 1)
    assert receiver.ids == [*wanted[:2], *wanted[1:]]


async def test_a_removed_hook_is_told_nothing_more() -> None:
    desk, receiver = office(), Receiver([500] * 1_000)
    hook = await hook_of(desk)
    await worked(desk)
    one = sender(desk, receiver)
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        working = tasks.create_task(one.run())
        await receiver.until(lambda: receiver.tried > 2)
        assert await hooks(desk).remove("acme", hook.id) is not None
        await until(lambda: idle(one))
        working.cancel()
    assert await hooks(desk).list() == []
    assert await hooks(desk).remove("acme", hook.id) is None
    assert desk.server.registry.entries == {}


async def test_a_log_that_was_made_anew_is_told_from_its_beginning() -> None:
    desk, receiver = office(), Receiver()
    await hook_of(desk)
    await worked(desk)
    await tells(sender(desk, receiver), receiver, lambda: len(receiver.got) > 2)
    desk.server.log.remake("b1")
    desk = office("e2", desk)
    receiver.got.clear()
    await worked(desk)
    desk.now += 60_000
    wanted = [cursor.replace("a0", "b1") for cursor, _ in events_of(desk)]
    await tells(sender(desk, receiver, "s2"), receiver, lambda: len(receiver.got) == len(wanted))
    assert receiver.ids == wanted


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("http://example.com", False),
        ("ftp://example.com", True),
        ("https://", True),
        ("https://ada:secret@example.com", True),
        ("https://exämple.com", True),
        ("https://example.com:port/", True),
        ("nonsense", True),
        (f"https://example.com/{'x' * 2_000}", True),
    ],
)
async def test_an_address_that_is_none_is_refused(url: str, *, plain: bool) -> None:
    desk = office()
    made = Hooks(desk.backbone, now_ms=desk.now_ms, plain=plain)
    with pytest.raises(Rejected) as caught:
        await made.create("acme", url, (), "ada")
    assert caught.value.code == "bad_url"


async def test_a_type_that_is_none_is_refused_and_the_secret_is_not_shown() -> None:
    desk = office()
    with pytest.raises(Rejected):
        await hook_of(desk, "no such type!")
    hook = await hook_of(desk, "run.", "tool_call.ended")
    assert hook.secret not in repr(hook)
    assert [one.hook for one in await hooks(desk).list("acme")] == [hook]
    assert await hooks(desk).list("umbrella") == []
