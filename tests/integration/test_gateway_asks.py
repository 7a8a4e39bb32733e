"""What tools ask, over HTTP: shown, answered with their form, declined. Not what runs decide."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain import events as e
from domain.content import text_of
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition
from services.worker.skills import Asks, Question
from services.worker.toolbox import ToolBox
from tests.support.asking_box import HOW_MANY, SIGN_IN, AskingBox
from tests.support.gateway import deps_of, gateway, projecting
from tests.support.people import at_work, calls, events_of, rests, state_when, team, waits

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "j1", "j1")
CANARY = "canary-77aa"


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    deps = deps_of(backbone, tmp_path, definitions=one_definition(team))
    async with projecting(backbone, tmp_path), gateway(deps) as http:
        yield http


def asking(backbone: Backbone, question: Question = HOW_MANY) -> Any:
    """A worker whose tools ask that."""

    def made(asks: Asks) -> ToolBox:
        return AskingBox(asks, question)

    replies = {"clerk": [calls(("look", "{}")), "Done."]}
    return at_work(backbone, replies, asking=made)


async def begin(client: httpx2.AsyncClient, backbone: Backbone) -> dict[str, Any]:
    """A run whose tool asks; what waits, as a client is shown it."""
    body = {"expert": "clerk", "query": "Go", "job": "j1"}
    await client.post("/v1/runs", json=body)
    await state_when(backbone, REF, waits)
    (shown,) = (await client.get("/v1/runs/j1/waiting")).json()["waiting"]
    return shown  # type: ignore[no-any-return]


async def answer(client: httpx2.AsyncClient, key: str = "", **body: Any) -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post("/v1/runs/j1/answer", json=body, headers=headers)


async def heard(backbone: Backbone) -> str:
    """What the tool heard."""
    await state_when(backbone, REF, rests)
    ended = [one for one in await events_of(backbone, REF) if isinstance(one, e.ToolCallEnded)]
    return text_of(ended[0].content)


async def test_form_of_a_tool_is_shown_and_filled_in_once(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    async with asking(backbone):
        shown = await begin(client, backbone)
        first = await answer(client, "a", answer={"count": 2})
        again = await answer(client, "a", answer={"count": 2})
        other = await answer(client, "b", answer={"count": 3})
        assert await heard(backbone) == "accept {'count': 2}"

    assert (shown["kind"], shown["message"], shown["tool"]) == ("ask", "How many?", "look")
    assert shown["form"]["required"] == ["count"]
    assert (first.status_code, again.status_code) == (202, 202)
    assert (other.status_code, other.json()["code"]) == (409, "not_waiting")
    given = [one for one in await events_of(backbone, REF) if isinstance(one, e.ToolCallAnswered)]
    assert [one.by for one in given] == [e.Principal(name="loopback", via="http")]


async def test_answer_that_does_not_fit_says_where_and_repeats_nothing_of_it(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    """C15."""
    async with asking(backbone):
        shown = await begin(client, backbone)
        wrong = await answer(client, answer={"count": CANARY}, call=shown["id"])
        text = await answer(client, answer=CANARY, call=shown["id"])
        missing = await answer(client)
        unlike = await answer(client, action="decline", answer={"count": 2})
        await answer(client, action="decline")
        assert await heard(backbone) == "decline None"

    assert (wrong.status_code, wrong.json()["code"]) == (422, "bad_answer")
    assert wrong.json()["errors"] == [{"field": "answer.count", "message": '{"type": "integer"}'}]
    assert (text.status_code, text.json()["code"]) == (422, "bad_answer")
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "answer")
    assert (unlike.status_code, unlike.json()["code"]) == (422, "bad_answer")
    assert not any(CANARY in one.text for one in (wrong, text))


@pytest.mark.parametrize("action", ["accept", "decline", "cancel"])
async def test_link_is_shown_whole_and_accepted_declined_or_closed(
    backbone: Backbone, client: httpx2.AsyncClient, action: str
) -> None:
    async with asking(backbone, SIGN_IN):
        shown = await begin(client, backbone)
        assert (await answer(client, action=action)).status_code == 202
        assert await heard(backbone) == f"{action} None"
    assert shown["url"] == "https://example.org/sign-in"


async def test_run_that_waits_for_an_answer_to_a_tool_is_listed_as_waiting(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    """C7."""
    async with asking(backbone):
        shown = await begin(client, backbone)
        bounds = (await backbone.log.bounds())[1]
        url = f"/v1/runs/j1?min_position={backbone.log.incarnation}-{bounds}-0"
        row = (await client.get(url)).json()
        tree = (await client.get("/v1/jobs/j1/tree")).json()["runs"]
    assert row["waiting"] == [shown["id"]]
    assert tree[0]["waiting"] == [{"id": shown["id"], "kind": "ask", "tool": "look"}]


async def test_question_of_an_expert_takes_no_action(
    backbone: Backbone, client: httpx2.AsyncClient
) -> None:
    question = calls(("question", '{"text": "Which?"}'))
    async with at_work(backbone, {"clerk": [question, "Done."]}):
        await begin(client, backbone)
        refused = await answer(client, action="decline")
        assert (await answer(client, answer="blue")).status_code == 202
        await state_when(backbone, REF, rests)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_waiting")
