"""People at MCP clients: questions, approvals, and runs that wait for somebody else."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest

from domain import events as e
from domain.content import TextPart
from domain.ids import RunRef
from domain.limits import Limits
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from services.worker.skills import Asks, Question, Reply
from services.worker.toolbox import OnOutput, ToolCall, ToolResult
from tests.support.cluster import Cluster, experts, local_tool, script
from tests.support.cluster import asks as asks_for
from tests.support.mcp_server import (
    BOUND_S,
    ERAS,
    TENANT,
    Era,
    Heard,
    Person,
    accepts,
    connected,
    deps_of,
    facts,
    served,
    text_of,
)
from tests.support.people import Office, at_work, calls, events_of, rests, state_when, team, waits
from tests.support.runs import COUNT_SCHEMA

pytestmark = pytest.mark.anyio

LETTER = '{"to": "Ada", "text": "Hello"}'
QUESTION = ("question", '{"text": "Which colour?"}')
GO = {"query": "Go"}


def ref_of(run: str) -> RunRef:
    return RunRef(TENANT, run, run)


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture
async def url(backbone: Backbone, tmp_path: Path) -> AsyncGenerator[str]:
    async with served(deps_of(backbone, tmp_path, team())) as found:
        yield found


async def answers_of(backbone: Backbone, run: str) -> list[str]:
    found = await events_of(backbone, ref_of(run))
    return [
        str(one.parts[0].model_dump()["text"])
        for one in found
        if isinstance(one, e.QuestionAnswered)
    ]


@pytest.mark.parametrize("era", ERAS)
async def test_a_question_is_asked_of_the_persons_client_and_the_answer_goes_back(
    backbone: Backbone, url: str, era: Era
) -> None:
    ada = Person([accepts(answer="Blue")])
    async with (
        at_work(backbone, {"clerk": [calls(QUESTION), "Blue it is."]}),
        connected(url, era, ada) as client,
    ):
        result = await client.call_tool("clerk", GO)

    assert (text_of(result), result.is_error) == ("Blue it is.", False)
    assert len(ada.asked) == 1
    assert "Which colour?" in ada.asked[0]
    assert await answers_of(backbone, facts(result, "run")) == ["Blue"]
    answered = [
        one
        for one in await events_of(backbone, ref_of(facts(result, "run")))
        if isinstance(one, e.QuestionAnswered)
    ]
    assert answered[0].by == e.Principal(name="ada", via="mcp")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (types.ElicitResult(action="decline"), "The person declined to answer."),
        (accepts(colour="blue", sure=True), '{"colour":"blue","sure":true}'),
    ],
    ids=["declined", "a form of the client's own"],
)
async def test_what_a_person_says_in_other_ways_is_an_answer_too(
    backbone: Backbone, url: str, era: Era, said: types.ElicitResult, answer: str
) -> None:
    async with (
        at_work(backbone, {"clerk": [calls(QUESTION), "I see."]}),
        connected(url, era, Person([said])) as client,
    ):
        result = await client.call_tool("clerk", GO)

    assert text_of(result) == "I see."
    assert await answers_of(backbone, facts(result, "run")) == [answer]


@pytest.mark.parametrize("era", ERAS)
async def test_several_questions_one_after_the_other_and_at_once(
    backbone: Backbone, url: str, era: Era
) -> None:
    ada = Person([accepts(answer=word) for word in ("one", "two", "three")])
    replies = [calls(QUESTION), calls(QUESTION, QUESTION), "Thanks."]
    async with at_work(backbone, {"clerk": replies}), connected(url, era, ada) as client:
        result = await client.call_tool("clerk", GO)

    assert text_of(result) == "Thanks."
    assert len(ada.asked) == 3
    assert sorted(await answers_of(backbone, facts(result, "run"))) == ["one", "three", "two"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (accepts(approve=True), 1),
        (accepts(approve=False, reason="not Ada"), 0),
        (types.ElicitResult(action="decline"), 0),
    ],
    ids=["approved", "denied", "declined"],
)
async def test_a_call_is_approved_or_denied_after_its_arguments_were_shown(
    backbone: Backbone, url: str, era: Era, said: types.ElicitResult, sent: int
) -> None:
    office, ada = Office(), Person([said])
    async with (
        at_work(backbone, {"clerk": [calls(("send", LETTER)), "Done."]}, office),
        connected(url, era, ada) as client,
    ):
        result = await client.call_tool("clerk", GO)

    assert text_of(result) == "Done."
    assert len(office.sent) == sent
    assert "letters are read first" in ada.asked[0]
    assert '"to": "Ada"' in ada.asked[0]


@pytest.mark.parametrize("era", ERAS)
async def test_what_waits_in_a_delegate_is_asked_about_too(
    backbone: Backbone, url: str, era: Era
) -> None:
    ada, office = Person([accepts(approve=True)]), Office()
    replies: dict[str, list[Any]] = {
        "boss": [calls(("clerk", '{"query": "Write."}')), "Good."],
        "clerk": [calls(("send", LETTER)), "Sent."],
    }
    async with at_work(backbone, replies, office), connected(url, era, ada) as client:
        result = await client.call_tool("boss", GO)

    assert text_of(result) == "Good."
    assert "clerk wants to call send" in ada.asked[0]
    assert len(office.sent) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_soft_limit_is_asked_about_with_its_figures(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    ada = Person([accepts(approve=True)])
    definition = team(limits=Limits(tokens_soft=5))
    replies = {"clerk": [calls(("look", "{}")), calls(("look", "{}")), "Done."]}
    async with (
        at_work(backbone, replies),
        served(deps_of(backbone, tmp_path, definition)) as url,
        connected(url, era, ada) as client,
    ):
        result = await client.call_tool("clerk", GO)

    assert text_of(result) == "Done."
    assert "beyond its soft limit of tokens" in ada.asked[0]
    assert "5 tokens are used, no hard limit" in ada.asked[0]


async def waiting_call(url: str, backbone: Backbone, era: Era, heard: Heard, after: Any) -> Any:
    """Call the clerk from a client that nobody sits at; do something once the run waits."""
    async with connected(url, era) as client, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(client.call_tool("clerk", GO, progress_callback=heard))
        run = await heard.run()
        await state_when(backbone, ref_of(run), waits)
        await heard.until("waits for a person")
        await after(client, run)
    return call.result()


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_cannot_ask_is_told_what_waits_and_how_to_answer_it(
    backbone: Backbone, url: str, era: Era
) -> None:
    heard = Heard()

    async def answer(client: Any, run: str) -> None:
        status = await client.call_tool("peritus_status", {"run": run})
        (waiting,) = status.structured_content["waiting"]
        assert waiting["arguments"] == {"text": "Which colour?"}
        wrong = await client.call_tool(
            "peritus_answer", {"run": run, "answer": "Red", "question": "c9-9"}
        )
        assert facts(wrong, "reason")["kind"] == "not_waiting"
        given = {"run": run, "answer": "Blue", "question": waiting["id"]}
        assert not (await client.call_tool("peritus_answer", given)).is_error

    async with at_work(backbone, {"clerk": [calls(QUESTION), "Blue it is."]}):
        result = await waiting_call(url, backbone, era, heard, answer)

    run = facts(result, "run")
    assert text_of(result) == "Blue it is."
    assert await answers_of(backbone, run) == ["Blue"]
    (told,) = [text for text in heard.texts if "waits for a person" in text]
    assert f"peritus answer {run} c1-0" in told


@pytest.mark.parametrize("era", ERAS)
async def test_an_approval_is_no_answer_that_a_model_can_give(
    backbone: Backbone, url: str, era: Era
) -> None:
    office, heard = Office(), Heard()

    async def meddle(client: Any, run: str) -> None:
        given = {"run": run, "answer": "yes", "question": "c1-0"}
        refused = await client.call_tool("peritus_answer", given)
        assert facts(refused, "reason")["kind"] == "not_waiting"
        await client.call_tool("peritus_cancel", {"run": run})

    async with at_work(backbone, {"clerk": [calls(("send", LETTER)), "Sent."]}, office):
        result = await waiting_call(url, backbone, era, heard, meddle)

    assert facts(result, "reason")["kind"] == "cancelled"
    assert office.sent == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_waits_for_people_no_longer_than_it_is_set_to(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    ada = Person([types.ElicitResult(action="cancel")])
    deps = deps_of(backbone, tmp_path, team(), people_wait_s=0.05)
    async with (
        at_work(backbone, {"clerk": [calls(QUESTION), "Blue it is."]}),
        served(deps) as url,
        connected(url, era, ada) as client,
    ):
        result = await client.call_tool("clerk", GO)
        run = facts(result, "run")
        state = await state_when(backbone, ref_of(run), waits)
        await client.call_tool("peritus_answer", {"run": run, "answer": "Blue"})
        ended = await state_when(backbone, ref_of(run), rests)

    assert result.is_error
    assert facts(result, "reason") == {"kind": "waiting", "waiting": ["c1-0"]}
    assert f"peritus answer {run} c1-0" in text_of(result)
    assert (state.status, ended.status) == ("running", "completed")
    assert len(ada.asked) == 1


async def test_a_form_is_withdrawn_when_somebody_else_is_quicker(
    backbone: Backbone, url: str
) -> None:
    slow = Person(hesitates=2)
    heard = Heard()
    async with (
        at_work(backbone, {"clerk": [calls(QUESTION), calls(QUESTION), "Blue it is."]}),
        connected(url, "legacy", slow) as client,
        connected(url, "legacy") as other,
        asyncio.TaskGroup() as tasks,
    ):
        call = tasks.create_task(client.call_tool("clerk", GO, progress_callback=heard))
        run = await heard.run()
        await heard.until("waits for a person")
        await other.call_tool("peritus_answer", {"run": run, "answer": "Blue"})
        async with asyncio.timeout(BOUND_S):
            await slow.withdrawn.wait()  # while the call goes on
        await heard.until("peritus answer " + run + " c2-0")
        await other.call_tool("peritus_answer", {"run": run, "answer": "Red"})
        result = await call

    assert text_of(result) == "Blue it is."
    assert len(slow.asked) == 2


@pytest.mark.parametrize("era", ERAS)
async def test_a_run_at_rest_goes_on_with_what_is_said_and_is_waited_for(
    backbone: Backbone, url: str, era: Era
) -> None:
    ada = Person([accepts(answer="Blue")])
    replies = ["First.", calls(QUESTION), "Second."]
    async with at_work(backbone, {"clerk": replies}), connected(url, era, ada) as client:
        first = await client.call_tool("clerk", GO)
        run = facts(first, "run")
        second = await client.call_tool("peritus_continue", {"run": run, "text": "And now?"})
        nobody = await client.call_tool("peritus_continue", {"run": "nobody", "text": "Hm?"})
        odd = await client.call_tool("peritus_continue", {"run": run, "txt": "Hm?"})

    assert (text_of(first), text_of(second)) == ("First.", "Second.")
    assert facts(second, "run") == run
    assert len(ada.asked) == 1
    assert facts(nobody, "reason")["kind"] == "no_such_run"
    assert facts(odd, "reason")["kind"] == "bad_input"
    assert "txt" in text_of(odd)


async def test_what_a_client_brings_back_is_taken_only_as_it_was_sealed(
    backbone: Backbone, url: str
) -> None:
    async with (
        at_work(backbone, {"clerk": [calls(QUESTION), "Blue it is."]}),
        connected(url, "auto", Person()) as client,
    ):
        asked = await client.session.call_tool("clerk", GO, allow_input_required=True)
        assert isinstance(asked, types.InputRequiredResult)
        assert asked.input_requests is not None
        brought: dict[str, Any] = {name: accepts(answer="Blue") for name in asked.input_requests}
        state = asked.request_state or ""
        for forged in (state[:-2] + "xx", "[1]"):
            with pytest.raises(Exception, match="Invalid or expired requestState"):
                await client.session.call_tool(
                    "clerk", GO, input_responses=brought, request_state=forged
                )
        with pytest.raises(Exception, match="Invalid or expired requestState"):
            await client.session.call_tool("boss", GO, input_responses=brought, request_state=state)
        missing = await client.session.call_tool(
            "clerk", GO, request_state=state, allow_input_required=True
        )
        right = await client.session.call_tool(
            "clerk", GO, input_responses=brought, request_state=state
        )

    assert isinstance(missing, types.InputRequiredResult)
    assert missing.input_requests == asked.input_requests
    assert isinstance(right, types.CallToolResult)
    assert text_of(right) == "Blue it is."


@pytest.mark.parametrize("era", ERAS)
async def test_arguments_too_long_to_be_shown_are_left_to_the_command_line(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    ada = Person()
    letter = f'{{"to": "Ada", "text": "{"x" * 30_000}"}}'
    deps = deps_of(backbone, tmp_path, team(), people_wait_s=0.05)
    async with (
        at_work(backbone, {"clerk": [calls(("send", letter)), "Sent."]}),
        served(deps) as url,
        connected(url, era, ada) as client,
    ):
        result = await client.call_tool("clerk", GO)

    assert facts(result, "reason")["kind"] == "waiting"
    assert "peritus approve" in text_of(result)
    assert ada.asked == []


async def counts(asks: Asks, call: ToolCall) -> str:
    return str(await asks.elicit(call, Question("How many?", schema=COUNT_SCHEMA)))


@dataclass
class Counter:
    """A toolbox whose only tool asks its person for a number."""

    asks: Asks

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        del on_output
        return ToolResult((TextPart(text=await counts(self.asks, call)),), is_error=False)


def idle(arguments: dict[str, Any], call: ToolCall) -> str:
    raise AssertionError(call.tool, arguments)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (accepts(count=3), Reply("accept", {"count": 3})),
        (types.ElicitResult(action="decline"), Reply("decline", None)),
    ],
    ids=["filled", "declined"],
)
async def test_what_a_tool_asks_its_person_is_asked_with_its_own_form(
    tmp_path: Path, era: Era, said: types.ElicitResult, told: Reply
) -> None:
    ada = Person([said])
    replies = script(asks_for(("tool", "{}")), "Done.")
    definition = experts(["tool"])
    cluster = Cluster(definition, replies, {"tool": local_tool(idle)}, asking=Counter)
    deps = deps_of(cluster.server.backbone(), tmp_path, definition)
    async with cluster.worker("e1"), served(deps) as url, connected(url, era, ada) as client:
        (name,) = (n for n in definition.experts if not n.startswith("@"))
        result = await client.call_tool(name, GO)
        found = await events_of(deps.backbone, ref_of(facts(result, "run")))

    assert text_of(result) == "Done."
    assert "How many?" in ada.asked[0]
    ended = [one for one in found if isinstance(one, e.ToolCallEnded)]
    assert str(told) in ended[0].model_dump_json().replace('\\"', '"')
