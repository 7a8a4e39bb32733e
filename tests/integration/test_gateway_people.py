"""People over HTTP: questions, approvals, steering, pauses, rules, trees. Not what runs decide."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain import events as e
from domain.definition import Definition
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition
from tests.support.gateway import deps_of, gateway, projecting
from tests.support.people import (
    SEND_IS_ASKED,
    Office,
    at_work,
    calls,
    events_of,
    rests,
    state_when,
    team,
    waits,
)

pytestmark = pytest.mark.anyio

CANARY = "canary-77aa"
LETTER = '{"to": "Ada", "text": "Hello"}'
QUESTION = ("question", '{"text": "Which colour?"}')


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
def definition() -> Definition:
    return team()


@pytest.fixture
async def client(
    backbone: Backbone, tmp_path: Path, definition: Definition
) -> AsyncGenerator[httpx2.AsyncClient]:
    deps = deps_of(backbone, tmp_path, definitions=one_definition(lambda: definition))
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        yield http


async def post(
    client: httpx2.AsyncClient, url: str, body: dict[str, Any] | None = None, key: str | None = None
) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await client.post(url, json=body or {}, headers=headers)


async def begin(client: httpx2.AsyncClient, expert: str = "clerk", job: str = "j1") -> RunRef:
    begun = await post(client, "/v1/runs", {"expert": expert, "query": "Go", "job": job})
    assert begun.status_code == 202, begun.text
    return RunRef("acme", job, job)


async def waiting(client: httpx2.AsyncClient, run: str = "j1") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get(f"/v1/runs/{run}/waiting")).json()["waiting"]
    return found


async def test_a_question_is_shown_with_its_arguments_and_answered_once(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with at_work(backbone, {"clerk": [calls(QUESTION), "Blue it is."]}):
        ref = await begin(client)
        await state_when(backbone, ref, waits)
        (shown,) = await waiting(client)
        body = {"answer": {"colour": "blue"}}
        first = await post(client, "/v1/runs/j1/answer", body, key="a")
        again = await post(client, "/v1/runs/j1/answer", body, key="a")
        other = await post(client, "/v1/runs/j1/answer", body, key="b")
        state = await state_when(backbone, ref, rests)

    assert (shown["kind"], shown["tool"], shown["arguments"]) == (
        "question",
        "question",
        {"text": "Which colour?"},
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert (other.status_code, other.json()["code"]) == (409, "not_waiting")
    assert state.status == "completed"
    answered = [x for x in await events_of(backbone, ref) if isinstance(x, e.QuestionAnswered)]
    assert [one.by for one in answered] == [e.Principal(name="loopback", via="http")]
    assert answered[0].parts[0].model_dump()["text"] == '{"colour":"blue"}'


async def test_a_call_is_approved_by_the_digest_of_what_was_shown_and_by_no_other(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    office = Office()
    async with at_work(backbone, {"clerk": [calls(("send", LETTER)), "Sent."]}, office):
        ref = await begin(client)
        await state_when(backbone, ref, waits)
        (shown,) = await waiting(client)
        body = {"approval": shown["id"], "digest": shown["digest"]}
        wrong = await post(client, "/v1/runs/j1/approve", body | {"digest": "f" * 64})
        assert office.sent == []
        right = await post(client, "/v1/runs/j1/approve", body)
        late = await post(client, "/v1/runs/j1/approve", body)
        await state_when(backbone, ref, rests)

    assert shown["reason"] == SEND_IS_ASKED.reason
    assert (wrong.status_code, wrong.json()["code"]) == (409, "other_arguments")
    assert right.status_code == 202
    assert (late.status_code, late.json()["code"]) == (409, "not_waiting")
    assert office.sent == [{"to": "Ada", "text": "Hello"}]


async def test_a_call_runs_with_the_arguments_of_a_person_and_a_denied_one_does_not(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    office = Office()
    two = calls(("send", LETTER), ("send", '{"to": "Bob"}'))
    async with at_work(backbone, {"clerk": [two, "Done."]}, office):
        ref = await begin(client)
        await state_when(backbone, ref, waits)
        first, second = await waiting(client)
        edited = {"approval": first["id"], "digest": first["digest"], "arguments": {"to": "Eve"}}
        denied = {"approval": second["id"], "digest": second["digest"], "verdict": "deny"}
        answers = [
            await post(client, "/v1/runs/j1/approve", body)
            for body in (denied | {"reason": "not Bob"}, edited)
        ]
        await state_when(backbone, ref, rests)

    assert [one.status_code for one in answers] == [202, 202]
    assert office.sent == [{"to": "Eve"}]
    ended = {x.call: x for x in await events_of(backbone, ref) if isinstance(x, e.ToolCallEnded)}
    assert ended["c1-1"].outcome == "refused"
    assert "not Bob" in ended["c1-1"].model_dump_json()


@pytest.mark.parametrize(("remember", "asked_again"), [("tool", 0), ("exact", 1), ("no", 2)])
async def test_a_decision_can_count_for_what_is_called_later(
    backbone: Backbone, client: httpx2.AsyncClient, remember: str, asked_again: int
) -> None:
    office = Office()
    letters = [calls(("send", LETTER)), calls(("send", LETTER), ("send", '{"to": "Bob"}')), "Sent."]
    team_replies = {"boss": [calls(("clerk", '{"query": "Write."}')), "Good."], "clerk": letters}
    async with at_work(backbone, team_replies, office):
        root = await begin(client, "boss")
        child = await child_of(backbone, root)
        await state_when(backbone, child, waits)
        (shown,) = await waiting(client)
        body = {"approval": shown["id"], "digest": shown["digest"], "remember": remember}
        url = f"/v1/runs/{shown['run']}/approve"
        assert (await post(client, url, body)).status_code == 202
        state = await state_when(
            backbone,
            child,
            lambda s: s.at_rest or (s.step == 2 and len(s.approvals) == asked_again),
        )
        assert len(state.approvals) == asked_again
        rules = (await state_when(backbone, root, lambda s: s.step == 1)).rules

    assert len(rules) == (remember != "no")


async def child_of(backbone: Backbone, root: RunRef) -> RunRef:
    state = await state_when(
        backbone, root, lambda s: any(call.delegation for call in s.open_calls)
    )
    delegation = next(call.delegation for call in state.open_calls if call.delegation)
    return RunRef(root.tenant, root.job, delegation.child)


async def test_a_run_is_steered_paused_and_resumed_and_the_tree_shows_it(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    replies = {"boss": [calls(("clerk", '{"query": "Write."}')), "Good."]}
    async with at_work(backbone, replies | {"clerk": [calls(("send", LETTER)), "I see."]}):
        root = await begin(client, "boss")
        child = await child_of(backbone, root)
        await state_when(backbone, child, waits)
        paused = await post(client, "/v1/runs/j1/pause")
        await state_when(backbone, child, lambda s: s.paused)
        tree = (await client.get("/v1/jobs/j1/tree")).json()["runs"]
        steered = await post(client, f"/v1/runs/{child.run}/steer", {"text": "Be brief."})
        (shown,) = await waiting(client)
        body = {"approval": shown["id"], "digest": shown["digest"]}
        await post(client, f"/v1/runs/{child.run}/approve", body)
        resumed = await post(client, "/v1/runs/j1/resume")
        await state_when(backbone, root, rests)
        over = [
            await post(client, f"/v1/runs/j1/{verb}", body)
            for verb, body in (("steer", {"text": "Hm"}), ("pause", {}))
        ]

    assert [one.status_code for one in (paused, steered, resumed)] == [202, 202, 202]
    assert [(one["expert"], one["depth"], one["paused"]) for one in tree] == [
        ("boss", 0, True),
        ("clerk", 1, True),
    ]
    assert tree[1]["parent_run"] == "j1"
    assert tree[0]["children"] == [tree[1]["run"]]
    assert tree[1]["waiting"] == [{"id": "c1-0", "kind": "approval", "tool": "send"}]
    assert [(one.status_code, one.json()["code"]) for one in over] == [(409, "at_rest")] * 2
    told = [x for x in await events_of(backbone, child) if isinstance(x, e.InputReceived)]
    assert told[-1].by == e.Principal(name="loopback", via="http")


async def test_rules_are_given_to_a_run_at_work(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    office = Office()
    async with at_work(backbone, {"clerk": [calls(("send", LETTER)), "Sent."]}, office):
        ref = await begin(client)
        await state_when(backbone, ref, waits)
        rule = {"verdict": "allow", "tool": "send", "arguments": {"to": "Ada"}}
        given = await post(client, "/v1/runs/j1/policy", {"rules": [rule]})
        await state_when(backbone, ref, rests)

    assert given.status_code == 202
    assert len(office.sent) == 1


async def test_runs_that_wait_or_are_paused_are_listed_by_that(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with at_work(backbone, {"clerk": [calls(QUESTION), "I see."]}):
        for job in ("j1", "j2"):
            await state_when(backbone, await begin(client, job=job), waits)
        held = (await post(client, "/v1/runs/j2/pause")).json()
        at = {"min_position": held["position"]}

        async def names(status: str) -> list[str]:
            page = (await client.get("/v1/runs", params=at | {"status": status})).json()
            return [run["run"] for run in page["runs"]]

        assert await names("waiting") == ["j2", "j1"]
        assert await names("paused") == ["j2"]
        row = (await client.get("/v1/runs/j1", params=at)).json()
        assert (row["status"], row["waiting"], row["paused_at_ms"]) == ("running", ["c1-0"], None)


async def test_an_answer_without_a_worker_is_stored_and_one_to_nothing_is_refused(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    replies = {"clerk": [calls(QUESTION), "Blue it is."]}
    async with at_work(backbone, replies):
        ref = await begin(client)
        await state_when(backbone, ref, waits)
    stored = await post(client, "/v1/runs/j1/answer", {"answer": "blue"}, key="k")
    nothing = await post(client, "/v1/runs/j1/answer", {"answer": "blue", "call": "c9-9"})
    async with at_work(backbone, replies, epoch="ep2"):
        state = await state_when(backbone, ref, rests)

    assert (stored.status_code, stored.json()["position"]) == (202, None)
    assert (nothing.status_code, nothing.json()["waiting"]) == (409, ["c1-0"])
    assert state.status == "completed"


async def test_typed_input_is_checked_before_a_run_exists(
    backbone: Backbone, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    typed = team(input_schema=schema)
    deps = deps_of(backbone, tmp_path, definitions=one_definition(lambda: typed))
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        wrong = await post(http, "/v1/runs", {"expert": "clerk", "input": {"n": CANARY}})
        text = await post(http, "/v1/runs", {"expert": "clerk", "query": "three"})
        untyped = await post(http, "/v1/runs", {"expert": "boss", "input": {"n": 3}})
        nothing = await post(http, "/v1/runs", {"expert": "boss"})
        async with at_work(backbone, {"clerk": ["Three."]}):
            right = await post(http, "/v1/runs", {"expert": "clerk", "input": {"n": 3}, "job": "j"})
            await state_when(backbone, RunRef("acme", "j", "j"), rests)

    assert [one.status_code for one in (wrong, text, untyped, nothing)] == [422] * 4
    assert CANARY not in wrong.text
    assert right.status_code == 202
    first = (await events_of(backbone, RunRef("acme", "j", "j")))[:4]
    told = next(event for event in first if isinstance(event, e.InputReceived))
    assert told.parts[0].model_dump()["text"] == '{"n":3}'


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("answer", {}, "answer"),
        ("answer", {"answer": "x", "cal": "c1-0"}, "cal"),
        ("approve", {"approval": "c1-0"}, "digest"),
        ("approve", {"approval": "c1-0", "digest": "", "verdict": "perhaps"}, "verdict"),
        ("approve", {"approval": "c1-0", "digest": "", "arguments": "x"}, "arguments"),
        ("steer", {"text": ""}, "text"),
        ("steer", {"text": "x", "now": "yes"}, "now"),
        ("pause", {"reason": "x"}, "reason"),
        ("policy", {"rules": [{"verdict": "maybe"}]}, "rules.0.verdict"),
        ("policy", {}, "rules"),
    ],
)
async def test_a_wrong_body_is_refused_by_its_field(
    backbone: Backbone,
    client: httpx2.AsyncClient,
    verb: str,
    body: dict[str, Any],
    field: str,
) -> None:
    async with at_work(backbone, {"clerk": [calls(QUESTION)]}):
        await state_when(backbone, await begin(client), waits)
        refused = await post(client, f"/v1/runs/j1/{verb}", body)

    assert refused.status_code == 422, refused.text
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_runs_that_are_not_there_or_another_tenants_are_not_found(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "answer": {"answer": "x"},
        "approve": {"approval": "c1-0", "digest": ""},
        "steer": {"text": "x"},
        "pause": {},
        "resume": {},
        "policy": {"rules": []},
    }
    async with at_work(backbone, {"clerk": [calls(QUESTION)]}):
        await state_when(backbone, await begin(client), waits)
        answers = [await post(client, f"/v1/runs/nobody/{v}", b) for v, b in bodies.items()]
        answers += [
            await client.get("/v1/runs/nobody/waiting"),
            await client.get("/v1/jobs/x/tree"),
        ]
        answers += [await client.get("/v1/jobs/a.b/tree")]

    assert [one.status_code for one in answers] == [404] * len(answers)


async def test_no_refusal_repeats_what_was_sent(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with at_work(backbone, {"clerk": [calls(("send", LETTER))]}):
        await state_when(backbone, await begin(client), waits)
        (shown,) = await waiting(client)
        bodies: dict[str, dict[str, Any]] = {
            "answer": {"answer": CANARY, "call": CANARY},
            "approve": {"approval": CANARY, "digest": CANARY},
            "policy": {"rules": [{"verdict": CANARY}]},
        }
        answers = [await post(client, f"/v1/runs/j1/{v}", b) for v, b in bodies.items()]
        known = {"approval": shown["id"], "digest": CANARY}
        answers.append(await post(client, "/v1/runs/j1/approve", known))

    assert [one.status_code for one in answers] == [409, 409, 422, 409]
    assert not any(CANARY in one.text for one in answers)
