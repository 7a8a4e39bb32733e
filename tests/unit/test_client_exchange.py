"""Requests of the client: one key for all tries, typed answers, typed errors. No network."""

from itertools import count
from typing import Any, TypeVar

import orjson
import pytest

from domain.errors import NoSuchRun, Rejected, TooLarge, Unavailable
from gateway.models.common import Accepted
from gateway.models.runs import Waiting
from peritus.client import calls
from peritus.client.errors import Faulty, Invalid, NotAllowed, NotFound, Refused, TooMany
from peritus.client.exchange import Call, Habits, Reply, Send, Wait, exchange

T = TypeVar("T")

ACCEPTED = {"run": "r1", "job": "j1", "position": None, "status_url": "/a", "events_url": "/b"}
OK = Reply(202, {}, orjson.dumps(ACCEPTED))
AWAY = Unavailable("nobody is there")


def habits(retries_max: int = 4) -> Habits:
    ids = count()
    return Habits(lambda: f"key{next(ids)}", lambda: 0.5, retries_max)


def played(
    call: Call[T], *replies: Reply | Unavailable, retries_max: int = 4
) -> tuple[T, list[Any]]:
    """What came of it, and what was sent and waited for meanwhile."""
    steps, coming, acts = exchange(call, habits(retries_max)), iter(replies), list[Any]()
    got: Reply | Unavailable | None = None
    while True:
        try:
            act = steps.send(got)
        except StopIteration as end:
            found: T = end.value
            return found, acts
        acts.append(act)
        got = next(coming) if isinstance(act, Send) else None


def problem(status: int, code: str = "code", **more: Any) -> Reply:
    return Reply(status, {}, orjson.dumps({"code": code, "detail": "why", **more}))


def test_a_write_has_one_key_over_all_its_tries() -> None:
    accepted, acts = played(calls.start("clerk", "Go"), AWAY, problem(503), OK)
    assert accepted == Accepted.model_validate(ACCEPTED)
    sent = [act.call for act in acts if isinstance(act, Send)]
    assert [call.headers["Idempotency-Key"] for call in sent] == ["key0"] * 3
    assert [type(act) for act in acts] == [Send, Wait, Send, Wait, Send]


def test_a_key_that_is_given_is_used() -> None:
    _, acts = played(calls.cancel("r1", key="mine"), OK)
    assert acts[0].call.headers["Idempotency-Key"] == "mine"


def test_a_read_has_no_key() -> None:
    assert "Idempotency-Key" not in calls.get("r1").headers


def test_waits_grow_and_are_not_below_what_the_gateway_asks_for() -> None:
    busy = Reply(429, {"retry-after": "9"}, b"{}")
    _, acts = played(calls.cancel("r1"), AWAY, AWAY, busy, OK)
    waits = [act.seconds for act in acts if isinstance(act, Wait)]
    assert waits[0] < waits[1] < 9 < waits[2]


def test_tries_are_bounded() -> None:
    with pytest.raises(Unavailable, match="nobody"):
        played(calls.cancel("r1"), *[AWAY] * 10, retries_max=2)


@pytest.mark.parametrize(
    ("reply", "kind", "also"),
    [
        (problem(400), Refused, Rejected),
        (problem(401), NotAllowed, Rejected),
        (problem(403), NotAllowed, Refused),
        (problem(404), NotFound, NoSuchRun),
        (problem(409, "not_waiting"), Refused, Rejected),
        (problem(413), TooLarge, TooLarge),
        (problem(422), Invalid, Refused),
        (problem(500), Faulty, Faulty),
        (Reply(400, {}, b"<html>"), Refused, Refused),
        (Reply(202, {}, b"<html>"), Faulty, Faulty),
        (Reply(202, {}, b"{}"), Faulty, Faulty),
    ],
)
def test_refusals_are_typed_and_not_tried_again(
    reply: Reply, kind: type[Exception], also: type[Exception]
) -> None:
    with pytest.raises(kind) as refused:
        played(calls.cancel("r1"), reply)
    assert isinstance(refused.value, also)


def test_asking_too_often_is_told_in_the_end() -> None:
    with pytest.raises(TooMany, match="why"):
        played(calls.cancel("r1"), problem(429), problem(429), retries_max=1)


def test_wrong_fields_are_told() -> None:
    errors = [{"field": "query", "message": "is wrong"}]
    with pytest.raises(Invalid) as refused:
        played(calls.cancel("r1"), problem(422, "invalid", errors=errors))
    assert (refused.value.code, refused.value.errors) == ("invalid", errors)


def body_of(call: Call[Any]) -> dict[str, Any]:
    assert call.content is not None
    return orjson.loads(call.content)  # type: ignore[no-any-return]


WAITING = Waiting(
    job="j1",
    run="child",
    expert="clerk",
    id="c1-0",
    kind="approval",
    since_ms=1,
    digest="abc",
    reason="",
)


def test_bodies_are_those_of_the_gateway() -> None:
    assert body_of(calls.start("clerk", "Go", limits={"steps_max": 3}, job="j1")) == {
        "expert": "clerk",
        "query": "Go",
        "job": "j1",
        "maxSteps": 3,
    }
    assert body_of(calls.answer("r1", None, call="c1-0")) == {"call": "c1-0", "answer": None}
    assert body_of(calls.answer(WAITING, action="decline")) == {
        "call": "c1-0",
        "action": "decline",
    }
    approved = calls.approve(WAITING, arguments={"to": "ben"}, remember="exact")
    assert approved.path == "/v1/runs/child/approve"
    assert body_of(approved) == {
        "approval": "c1-0",
        "digest": "abc",
        "verdict": "approve",
        "reason": "",
        "remember": "exact",
        "arguments": {"to": "ben"},
    }
    assert body_of(calls.deny(WAITING, reason="no"))["verdict"] == "deny"
    assert body_of(calls.fork("r1", 2, "Again", results={"c1-0": "x"})) == {
        "fromStep": 2,
        "query": "Again",
        "results": {"c1-0": "x"},
    }


def test_what_the_gateway_would_refuse_is_refused_before_it_is_sent() -> None:
    with pytest.raises(Rejected, match="job"):
        calls.start("clerk", "Go", job="no such name")
    with pytest.raises(Rejected, match="fromStep"):
        calls.fork("r1", -1)


def test_names_are_parts_of_a_path_and_nothing_else() -> None:
    assert calls.get("../x?y").path == "/v1/runs/..%2Fx%3Fy"
    assert calls.download_file("j1", "a folder/ü.txt").path.endswith("/a%20folder/%C3%BC.txt")
