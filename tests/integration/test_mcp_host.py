"""Calls of a well-behaved server made with the SDK, as a process: what comes of each feature."""

import asyncio
from dataclasses import replace

import pytest

from domain.mcp import Catalogue, RemoteTool
from domain.tools import Safety
from services.tool.mcp.calls import Caller
from services.worker.skills import Question, Reply, Sample, Sampled
from services.worker.toolbox import ToolResult
from tests.support.skills import CALL, QUICK, stage, text, until

pytestmark = pytest.mark.anyio

FRIENDLY = replace(QUICK, open_s=30.0)


def the(catalogue: Catalogue, remote: str) -> RemoteTool:
    found = catalogue.find(remote)
    assert found is not None, f"{remote} of {[tool.remote for tool in catalogue.tools]}"
    return found


async def test_what_a_server_offers_is_found_sorted_and_twice_the_same() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        assert found == await here.discover()
    assert (found.server, found.version) == ("friendly", "2.1")
    assert [tool.remote for tool in found.tools] == [
        "prompt:review",
        "resource:read",
        "resources:list",
        "tool:add",
        "tool:fails",
        "tool:greet",
        "tool:greet_in_parts",
        "tool:needs_sign_in",
        "tool:picture",
        "tool:poem",
        "tool:sign_in",
        "tool:steps",
        "tool:waits",
        "tool:where",
    ]
    assert the(found, "tool:add").read_only
    assert the(found, "prompt:review").input_schema["required"] == ["code"]
    assert "note://{number} A note by its number." in the(found, "resource:read").description


async def test_tools_prompts_and_resources_are_called_in_one_session() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()

        async def called(remote: str, arguments: str) -> ToolResult:
            return await here.call(the(found, remote), arguments=arguments)

        assert text(await called("tool:add", '{"a": 1, "b": 2}')) == '{\n  "total": 3\n}'
        assert (await called("tool:fails", "{}")).is_error
        assert "kind way: x = 1" in text(await called("prompt:review", '{"code": "x = 1"}'))
        assert "note://all all" in text(await called("resources:list", "{}"))
        assert "note 7" in text(await called("resource:read", '{"uri": "note://7"}'))
        assert text(await called("tool:where", "{}")) == "file:///workspace"
        assert len(here.started) == 2  # one to ask what there is, one for all calls


async def test_pictures_are_shown_and_other_data_is_told_of() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        result = await here.call(the(found, "tool:picture"), arguments="{}")
    assert [(file.name, file.media_type) for file in result.files] == [("image-1.png", "image/png")]
    assert "[audio: said to be audio/wav, 4 bytes, not shown]" in text(result)
    assert "[resource note://1: a note;" in text(result)
    assert "[resource note://2]\ninside" in text(result)
    assert (result.full_output, result.full_output_media_type) == (
        b"RIFF",
        "application/octet-stream",
    )


async def test_progress_notes_and_stderr_are_heard_while_a_call_runs() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        assert text(await here.call(the(found, "tool:steps"), arguments="{}")) == "done"
        heard = "".join(here.heard)
    assert "[1/2] half way\n" in heard
    assert "[info] a note\n" in heard


async def test_a_question_of_a_tool_is_answered_by_the_person() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        assert text(await here.call(the(found, "tool:greet"), arguments="{}")) == "Hello Ada"
        here.person.reply = Reply("decline")
        assert text(await here.call(the(found, "tool:greet"), arguments="{}")) == "you decline"
        here.person.reply = Reply("accept")
        assert text(await here.call(the(found, "tool:sign_in"), arguments="{}")) == "you accept"
        questions = [asked for _, asked in here.person.asked]
    form, _, link = questions
    assert isinstance(form, Question)
    assert isinstance(link, Question)
    assert (form.message, (form.schema or {})["required"]) == ("Who are you?", ["name"])
    assert (link.message, link.url) == ("Sign in.", "https://example.org/in")


async def test_a_call_that_needs_an_address_opened_first_is_sent_again_after_that() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        needs = the(found, "tool:needs_sign_in")
        assert text(await here.call(needs, arguments="{}")) == "signed in"
        await here.host.leave("acme", here.place)
        here.person.reply = Reply("decline")
        refused = await here.call(needs, arguments="{}")
        assert refused.is_error
        assert "refused the call" in text(refused)
    assert [asked.url for _, asked in here.person.asked if isinstance(asked, Question)] == [
        "https://example.org/first",
        "https://example.org/first",
    ]


async def test_a_model_is_asked_only_where_the_definition_allows_it() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        poem = the(found, "tool:poem")
        here.person.sampled = Sampled("roses", "scripted", "endTurn")
        assert text(await here.call(poem, arguments="{}")).startswith("no poem: ")
        assert here.person.asked == []
        here.skill = here.skill.model_copy(update={"sampling": "allow"})
        assert text(await here.call(poem, arguments="{}")).startswith("scripted: ")
        here.person.sampled = None
        assert "the budget is used up" in text(await here.call(poem, arguments="{}"))
    (_, asked), _ = here.person.asked
    assert isinstance(asked, Sample)
    assert (asked.messages[0].text, asked.output_tokens_max) == ("A line, please.", 50)


async def test_leaving_a_call_tells_the_server_and_keeps_the_connection() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        async with asyncio.TaskGroup() as tasks:
            waits = tasks.create_task(here.call(the(found, "tool:waits"), arguments="{}"))
            await until(lambda: "waiting" in "".join(here.heard))
            waits.cancel()
        result = await here.call(the(found, "tool:add"), arguments='{"a": 1, "b": 1}')
        assert not result.is_error
        assert len(here.started) == 2
        await here.host.leave("acme", here.place)


async def test_calls_run_side_by_side_until_one_asks() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here:
        found = await here.discover()
        here.person.may_answer.clear()
        async with asyncio.TaskGroup() as tasks:
            waits = tasks.create_task(
                here.call(the(found, "tool:waits"), arguments="{}", name="c1-0")
            )
            await until(lambda: "waiting" in "".join(here.heard))
            greets = tasks.create_task(
                here.call(the(found, "tool:greet"), arguments="{}", name="c1-1")
            )
            adds = await here.call(
                the(found, "tool:add"), arguments='{"a": 1, "b": 1}', safety=Safety.READ_ONLY
            )
            assert not adds.is_error
            waits.cancel()  # now nothing but the greeting can have asked
            await until(lambda: bool(here.person.asked))
            assert [call for call, _ in here.person.asked] == ["c1-1"]
            here.person.may_answer.set()
            assert text(await greets) == "Hello Ada"


async def test_with_the_newest_protocol_a_question_is_of_the_call_it_came_with() -> None:
    async with stage("friendly", bounds=FRIENDLY) as here, asyncio.TaskGroup() as tasks:
        caller = Caller(tasks, here.person, FRIENDLY)
        server = replace(here.host.server(here.skill, here.site), handshake="auto")
        found = await caller.discover(server)
        assert found.protocol == "2026-07-28"

        async def called(remote: str, name: str) -> ToolResult:
            call = replace(CALL, arguments="{}", call=name)
            return await caller.call(server, the(found, remote), call, here.hear)

        waits = tasks.create_task(called("tool:waits", "c1-0"))
        await until(lambda: "waiting" in "".join(here.heard))
        result = await called("tool:greet_in_parts", "c1-1")
        assert text(result) == "Hello Ada, half way"
        assert [call for call, _ in here.person.asked] == ["c1-1"]
        waits.cancel()
        await caller.close()
