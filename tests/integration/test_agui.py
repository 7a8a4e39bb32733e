"""AG-UI over HTTP without its client: what turns are, and what is refused. Not pages."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain import events as e
from domain.content import FilePart
from domain.ids import RunRef
from domain.limits import Limits
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition, one_tenant
from services.worker.skills import Question
from tests.support.agui import asked, snapshot, text, turn, types, whole
from tests.support.asking_box import HOW_MANY, AskingBox
from tests.support.gateway import BOUND_S, deps_of, gateway
from tests.support.people import Office, at_work, calls, events_of, rests, state_when, team, waits
from tests.support.speaking import Speaker, speaking

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "t1", "t1")
LETTER = calls(("send", '{"to": "ann"}'))
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 20).decode()


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
    deps = deps_of(backbone, tmp_path, definitions=one_definition(team))
    async with asyncio.timeout(BOUND_S), gateway(deps) as http:
        yield http


async def inputs(backbone: Backbone) -> list[e.InputReceived]:
    return [one for one in await events_of(backbone, REF) if isinstance(one, e.InputReceived)]


async def test_the_same_run_id_is_the_same_turn_however_often(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": ["Once.", "Twice."]}):
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        again = await whole(client, asked("t1", "r1", "Go"), "clerk")
        other = await whole(client, asked("t1", "r2", "Go"), "clerk")
    assert text(first) == text(again) == "Once."
    assert text(other) == "Twice."
    assert len(await inputs(backbone)) == 2


async def test_turns_that_are_asked_for_at_once_are_one(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": ["Once.", "Twice."]}), asyncio.TaskGroup() as tasks:
        asking = [
            tasks.create_task(whole(client, asked("t1", "r1", "Go"), "clerk")) for _ in range(4)
        ]
    assert {text(one.result()) for one in asking} == {"Once."}
    assert len(await inputs(backbone)) == 1


async def test_old_turn_is_told_as_it_was_when_others_followed(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": [LETTER, "Sent.", "Later."]}):
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        (interrupt,) = first[-1]["outcome"]["interrupts"]
        resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": True}]
        second = await whole(client, asked("t1", "r2", resume=resume))
        third = await whole(client, asked("t1", "r3", "And?"))
        again = [
            await whole(client, asked("t1", "r1", "Go")),
            await whole(client, asked("t1", "r2", resume=resume)),
            await whole(client, asked("t1", "r3", "And?")),
        ]
    assert [text(one) for one in again] == [text(first), text(second), text(third)]
    assert [one[-1] for one in again] == [first[-1], second[-1], third[-1]]
    assert types(second)[-1] == "RUN_FINISHED"


async def test_several_interrupts_are_answered_in_one_turn(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    question = ("question", '{"question": "Which colour?"}')
    replies: dict[str, list[Any]] = {
        "boss": [calls(("clerk", '{"query": "Write"}'), question), "All done."],
        "clerk": [LETTER, "Sent."],
    }
    async with at_work(backbone, replies):
        first = await whole(client, asked("t1", "r1", "Go"), "boss")
        interrupts = first[-1]["outcome"]["interrupts"]
        payloads = {"input_required": "blue", "tool_call": {"approved": True}}
        resume = [
            {"interruptId": one["id"], "status": "resolved", "payload": payloads[one["reason"]]}
            for one in interrupts
        ]
        over = await whole(client, asked("t1", "r2", resume=resume))
        again = await whole(client, asked("t1", "r2", resume=resume))
    assert {one["reason"] for one in interrupts} == set(payloads)
    (started,) = (one for one in first if one["type"] == "SUBAGENT_STARTED")
    assert over[-1]["outcome"] == {"type": "success"}
    assert text(over) == "Sent.All done."
    assert {one.get("subagentRunId") for one in over} == {None, started["subagentRunId"]}
    assert text(again) == text(over)


async def test_nobody_at_work_yet_is_waited_for(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    async with turn(client, asked("t1", "r1", "Go"), "clerk") as events:
        assert (await anext(events))["type"] == "RUN_STARTED"
        async with at_work(backbone, {"clerk": ["Done."]}):
            rest = [event async for event in events]
    assert text(rest) == "Done."


async def test_text_is_exact_when_deltas_were_said_before_one_listened(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    speaker = Speaker()
    async with speaking(backbone, speaker):
        async with turn(client, asked("t1", "r1", "Go"), "clerk") as events:
            speaker.say("One ", "two ")
            told = ""
            while told != "One two ":
                event = await anext(events)
                told += event.get("delta", "") if event["type"].startswith("TEXT") else ""
        async with turn(client, asked("t1", "r2")) as events:
            told = ""
            while told != "One two ":
                event = await anext(events)
                told += event.get("delta", "") if event["type"].startswith("TEXT") else ""
            speaker.say("three.")
            speaker.stop()
            rest = [event async for event in events]
    assert told + text(rest) == "One two three."
    assert rest[-1]["result"] == "One two three."


async def test_what_somebody_else_says_meanwhile_is_told(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    speaker = Speaker()
    async with (
        speaking(backbone, speaker),
        turn(client, asked("t1", "r1", "Go"), "clerk") as events,
    ):
        while (await anext(events))["type"] != "STEP_STARTED":
            pass
        await client.post("/v1/runs/t1/continue", json={"query": "Also this"})
        event = await anext(events)
        while event["type"] != "TEXT_MESSAGE_CONTENT":
            event = await anext(events)
        speaker.stop()
        speaker.stop()
    assert event["delta"] == "Also this"


async def test_interrupt_of_other_arguments_or_none_is_refused(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    office = Office()
    async with at_work(backbone, {"clerk": [LETTER, "Sent."]}, office):
        await whole(client, asked("t1", "r1", "Go"), "clerk")
        codes: list[str] = []
        for name in (f"t1.c1-0.{'0' * 64}", "t1.c9-0.abc", "nonsense", "other.c1-0.abc"):
            resume = [{"interruptId": name, "status": "resolved", "payload": True}]
            refused = await client.post("/v1/agui", json=asked("t1", "r2", resume=resume))
            assert refused.status_code == 409
            codes.append(refused.json()["code"])
    assert codes == ["other_arguments", "not_waiting", "not_waiting", "not_waiting"]
    assert office.sent == []


async def test_answer_that_is_none_is_refused(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": [LETTER, "Sent."]}):
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        name = first[-1]["outcome"]["interrupts"][0]["id"]
        resume = [{"interruptId": name, "status": "resolved", "payload": "perhaps"}]
        refused = await client.post("/v1/agui", json=asked("t1", "r2", resume=resume))
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_answer")


async def test_fork_has_the_conversation_of_its_source_and_goes_on(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    replies = [calls(("look", "{}"), text="I look."), "Seen.", "Seen again.", "And more."]
    async with at_work(backbone, {"clerk": replies}):
        await whole(client, asked("t1", "r1", "Look"), "clerk")
        body = {"fromStep": 1, "job": "t2", "results": {"c1-0": "nothing there"}}
        assert (await client.post("/v1/runs/t1/fork", json=body)).status_code == 202
        ref = RunRef("acme", "t2", "t2")
        await state_when(backbone, ref, rests)
        again = await whole(client, asked("t2", "r1"))
        more = await whole(client, asked("t2", "r2", "And?"))
    first, second = snapshot(again), snapshot(more)
    told = [(one["role"], one.get("content")) for one in first]
    assert told == [
        ("user", "Look"),
        ("assistant", "I look."),
        ("tool", "nothing there"),
        ("assistant", "Seen."),
    ]
    assert [one["id"] for one in first[1:]] == ["t2.s1", "t2.c1-0.result", "t2.s2"]
    assert second == [*first, {"id": "r2-u0", "role": "user", "content": "And?"}]
    assert text(more) == "Seen again."


async def test_soft_limit_is_an_interrupt(backbone: Backbone, tmp_path: Path) -> None:
    definition = team(limits=Limits(tokens_soft=1))
    deps = deps_of(backbone, tmp_path, definitions=one_definition(lambda: definition))
    async with (
        asyncio.timeout(BOUND_S),
        gateway(deps) as client,
        at_work(backbone, {"clerk": [calls(("look", "{}")), "Done."]}),
    ):
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        (interrupt,) = first[-1]["outcome"]["interrupts"]
        resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": True}]
        over = await whole(client, asked("t1", "r2", resume=resume))
    assert interrupt["reason"] == "peritus:budget"
    assert interrupt["metadata"]["peritus"]["soft"] == 1
    assert text(over) == "Done."


async def asked_by_a_tool(
    client: httpx2.AsyncClient, backbone: Backbone, question: Question, answer: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The interrupt that what a tool asks is, and the turn that answers it."""
    replies = {"clerk": [calls(("look", "{}")), "Done."]}
    async with at_work(backbone, replies, asking=lambda asks: AskingBox(asks, question)):
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        (interrupt,) = first[-1]["outcome"]["interrupts"]
        resume = [{"interruptId": interrupt["id"], "status": "resolved", **answer}]
        return interrupt, await whole(client, asked("t1", "r2", resume=resume))


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        ({"payload": {"count": 3}}, "accept"),
        ({"payload": False}, "decline"),
        ({"status": "cancelled"}, "cancel"),
    ],
)
async def test_what_a_tool_asks_is_filled_in_declined_or_closed(
    client: httpx2.AsyncClient, backbone: Backbone, answer: dict[str, Any], action: str
) -> None:
    interrupt, over = await asked_by_a_tool(client, backbone, HOW_MANY, answer)
    assert interrupt["reason"] == "input_required"
    assert interrupt["responseSchema"] == HOW_MANY.schema
    assert text(over) == "Done."
    (answered,) = [
        one for one in await events_of(backbone, REF) if isinstance(one, e.ToolCallAnswered)
    ]
    assert answered.action == action


async def test_answer_that_does_not_fit_the_form_of_a_tool_is_refused(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    replies = {"clerk": [calls(("look", "{}")), "Done."]}
    async with at_work(backbone, replies, asking=lambda asks: AskingBox(asks, HOW_MANY)):
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        name = first[-1]["outcome"]["interrupts"][0]["id"]
        resume = [{"interruptId": name, "status": "resolved", "payload": {"count": "many"}}]
        refused = await client.post("/v1/agui", json=asked("t1", "r2", resume=resume))
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_answer")


async def test_files_and_context_are_told_to_the_expert(
    client: httpx2.AsyncClient, backbone: Backbone
) -> None:
    source = {"type": "data", "value": PIXEL, "mimeType": "image/png"}
    content = [{"type": "text", "text": "Look"}, {"type": "image", "source": source}]
    body = asked("t1", "r1", context=[{"description": "page", "value": "start"}])
    body["messages"] = [{"id": "u1", "role": "user", "content": content}]
    async with at_work(backbone, {"clerk": ["Seen."]}):
        told = await whole(client, body, "clerk")
        again = await whole(client, asked("t1", "r2"))
    (said,) = await inputs(backbone)
    assert said.parts[0].text == "Look\n\nContext:\n- page: start"  # type: ignore[union-attr]
    assert isinstance(said.parts[1], FilePart)
    assert text(told) == "Seen."
    assert snapshot(again)[0]["content"].startswith("Look")


@pytest.mark.parametrize(
    ("body", "expert", "code"),
    [
        (asked("t1", "r1", "Go"), "", "no_expert"),
        (asked("t1", "r1", "Go"), "nobody", "unknown_expert"),
        (asked("t1", "r1", "Go", forwardedProps={"expert": "nobody"}), "", "unknown_expert"),
        (asked("t1", "r1"), "clerk", "empty_input"),
        (asked("t1", "r1", " "), "clerk", "bad_query"),
        ({"threadId": "t1"}, "clerk", "invalid"),
        (asked("t" * 600, "r1", "Go"), "clerk", "invalid"),
    ],
)
async def test_wrong_requests_are_refused_before_anything_begins(
    client: httpx2.AsyncClient, backbone: Backbone, body: dict[str, Any], expert: str, code: str
) -> None:
    path = f"/v1/agui/{expert}" if expert else "/v1/agui"
    refused = await client.post(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert await backbone.log.bounds() == (1, 0)


async def test_thread_of_another_tenant_is_another_thread(
    client: httpx2.AsyncClient, backbone: Backbone, tmp_path: Path
) -> None:
    theirs = deps_of(
        backbone, tmp_path, definitions=one_definition(team), tenant=one_tenant("umbrella")
    )
    async with at_work(backbone, {"clerk": [LETTER, "Sent."]}), gateway(theirs) as other:
        first = await whole(client, asked("t1", "r1", "Go"), "clerk")
        nothing = await other.post("/v1/agui", json=asked("t1", "r2"))
        resume = [
            {
                "interruptId": first[-1]["outcome"]["interrupts"][0]["id"],
                "status": "resolved",
                "payload": True,
            }
        ]
        refused = await other.post("/v1/agui", json=asked("t1", "r1", resume=resume))
        messages = [{"role": "user", "content": "Go on"}]
        chat = {"model": "clerk", "messages": messages, "metadata": {"peritus_job": "t1"}}
        chatted = await other.post("/v1/chat/completions", json=chat)
    assert (nothing.status_code, nothing.json()["code"]) == (422, "empty_input")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_waiting")
    assert (chatted.status_code, chatted.json()["error"]["code"]) == (404, "no_such_job")
    assert waits(await state_when(backbone, REF, waits))
