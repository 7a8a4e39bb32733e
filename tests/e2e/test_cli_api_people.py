"""`peritus.api` for people: what waits, answers, decisions, steering, pauses, rules, budgets."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Rejected
from domain.events import ApprovalDecided, Principal, RunPaused
from domain.policy import PolicyRule
from peritus.api import Handle, Peritus, Waiting, tool
from services.loop.models.scripted import ScriptedModel
from services.worker.toolbox import ToolCall
from tests.support.people import calls

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

DEFINITION = """\
[experts.clerk]
instruction = "Write."
provider = "scripted"
model = "none.toml"
[experts.clerk.skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
[experts.clerk.skills.office]
type = "localSkill"
tools = ["send"]
[experts.clerk.skills.ask]
type = "interactiveSkill"
[experts.clerk.skills.ask.tools.question]
description = "Ask."
inputJsonSchema = '{"type":"object"}'
[experts.typed]
instruction = "Count."
provider = "scripted"
model = "none.toml"
input = { type = "object", required = ["n"], properties = { n = { type = "integer" } } }
output = { type = "object", required = ["n"], properties = { n = { type = "integer" } } }
[[policy]]
verdict = "ask"
tool = "send"
"""

LETTER = '{"to": "Ada"}'
SENT: list[dict[str, Any]] = []


def send(arguments: dict[str, Any], call: ToolCall) -> str:
    del call
    SENT.append(arguments)
    return "sent"


SEND = tool("send", "Send a letter.", {"type": "object"}, send)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncGenerator[Peritus]:
    (tmp_path / "perstack.toml").write_text(DEFINITION)
    (tmp_path / "none.toml").write_text('[[reply]]\ntext = "none"\n')
    SENT.clear()
    models = {
        "letters": ScriptedModel(
            [calls(("send", LETTER)), calls(("send", LETTER), ("send", '{"to": "Bob"}')), "Done."]
        ),
        "asks": ScriptedModel([calls(("question", '{"text": "Which?"}')), "I see."]),
        "counts": ScriptedModel(['{"n": 4}']),
    }
    async with (
        asyncio.timeout(60),
        Peritus.embedded(tmp_path, tools=[SEND], models=models, user="ada") as peritus,
    ):
        yield peritus


async def waiting(run: Handle, count: int = 1) -> tuple[Waiting, ...]:
    """What waits, as soon as so much does."""
    found = await run.waiting()
    if len(found) < count:
        async for _ in run.events():
            found = await run.waiting()
            if len(found) >= count:
                break
    return found


async def test_a_question_is_seen_and_answered(office: Peritus) -> None:
    run = await office.start("clerk", "Go", model="asks")
    (question,) = await waiting(run)
    await run.answer("the blue one", to=question)
    result = await run.result()

    assert (question.kind, question.arguments) == ("question", '{"text": "Which?"}')
    assert result.text == "I see."
    with pytest.raises(Rejected, match="no open question"):
        await run.answer("again", to=question)


async def test_what_is_decided_is_what_was_shown_and_it_is_recorded_whose_word_it_was(
    office: Peritus,
) -> None:
    run = await office.start("clerk", "Go", model="letters")
    (letter,) = await waiting(run)
    await run.approve(letter, arguments={"to": "Eve"}, reason="she asked")
    again, bob = await waiting(run, 2)
    await run.approve(again, remember="exact")
    await run.deny(bob, reason="not Bob", remember=True)
    events = [heard.event async for heard in run.events()]

    assert (letter.wait.tool, letter.arguments) == ("send", LETTER)
    assert {"to": "Eve"} in SENT
    assert {"to": "Ada"} in SENT
    assert len(SENT) == 2
    decided = [one for one in events if isinstance(one, ApprovalDecided)]
    assert [one.verdict for one in decided] == ["edited", "approved", "denied"]
    assert [one.by for one in decided] == [Principal(name="ada", via="api")] * 3
    with pytest.raises(Rejected):
        await run.approve(bob)


async def test_without_saying_what_exactly_one_has_to_wait(office: Peritus) -> None:
    run = await office.start("clerk", "Go", model="letters")
    await waiting(run)
    await run.approve()
    await waiting(run, 2)
    with pytest.raises(Rejected, match="say which: c2-0, c2-1"):
        await run.approve()
    await run.change_policy([PolicyRule(verdict="allow", tool="send")])

    assert (await run.result()).text == "Done."
    assert len(SENT) == 3


async def test_a_run_is_paused_steered_and_resumed(office: Peritus) -> None:
    run = await office.start("clerk", "Go", model="asks")
    await waiting(run)
    await run.pause()
    await run.answer("blue")
    await run.steer("Be brief.")
    await run.resume()
    result = await run.result()
    paused = [heard.event async for heard in run.events() if isinstance(heard.event, RunPaused)]

    assert result.status == "completed"
    assert [one.by.name for one in paused] == ["ada"]
    with pytest.raises(Rejected):
        await run.steer("More")


async def test_data_goes_in_and_comes_out_and_limits_go_above_the_file(office: Peritus) -> None:
    run = await office.start("typed", data={"n": 3}, model="counts")
    result = await run.result()
    small = await office.start("clerk", "Go", model="letters", limits={"tokens_max": 10})

    assert result.data == {"n": 4}
    assert (await small.result()).status == "stopped"
    with pytest.raises(Rejected, match="takes data"):
        await office.start("typed", "three", model="counts")
