"""`peritus.api` over the embedded server: start, hear, say, cancel, own tools. Not the command."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.content import CallPart, TextPart
from domain.errors import Rejected
from peritus.api import Peritus, tool
from services.loop.models.port import ModelReply
from services.loop.models.scripted import ScriptedModel
from services.worker.toolbox import ToolCall
from tests.e2e.clerk import DEFINITION

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

SCRIPT = """\
[[reply]]
[[reply.call]]
tool = "lookUp"
arguments = { name = "Ada" }
[[reply]]
text = "Room 7."
expect = "Ada sits in room 7"
[[reply]]
text = "You are welcome."
expect = "Thank you"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "perstack.toml").write_text(DEFINITION)
    (tmp_path / "clerk.toml").write_text(SCRIPT)
    return tmp_path


def look_up(arguments: dict[str, Any], call: ToolCall) -> str:
    assert call.key
    return f"{arguments['name']} sits in room 7"


LOOK_UP = tool(
    "lookUp",
    "Where somebody sits.",
    {"type": "object", "properties": {"name": {"type": "string"}}},
    look_up,
)


async def test_a_program_gives_an_expert_its_own_tool_and_hears_the_run(folder: Path) -> None:
    async with asyncio.timeout(30), Peritus.embedded(folder, tools=[LOOK_UP]) as peritus:
        run = await peritus.start("clerk", "Where is Ada?")
        kinds = [heard.event.type async for heard in run.events()]
        result = await run.result()

    assert kinds[-1] == "run.completed.v2"
    assert "tool_call.claimed.v1" in kinds
    assert (result.status, result.text, result.steps) == ("completed", "Room 7.", 2)


async def test_without_a_folder_it_is_the_project_that_one_is_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = folder / "notes"
    below.mkdir()
    monkeypatch.chdir(below)
    async with asyncio.timeout(30), Peritus.embedded(tools=[LOOK_UP]) as peritus:
        run = await peritus.start("clerk", "Where is Ada?")
        assert (await run.result()).text == "Room 7."
    assert (folder / ".peritus").is_dir()


async def test_a_run_at_rest_can_be_spoken_to(folder: Path) -> None:
    async with asyncio.timeout(30), Peritus.embedded(folder, tools=[LOOK_UP]) as peritus:
        run = await peritus.start("clerk", "Where is Ada?")
        await run.result()
        again = await (await peritus.run(run.ref.run)).say("Thank you")
        result = await again.result()

    assert result.text == "You are welcome."


async def test_a_run_can_be_cancelled_while_its_model_thinks(folder: Path) -> None:
    (folder / "clerk.toml").write_text('[[reply]]\ntext = "Hm."\ndelay_ms = 60000\n')
    async with asyncio.timeout(30), Peritus.embedded(folder, tools=[LOOK_UP]) as peritus:
        run = await peritus.start("clerk", "Where is Ada?")
        await run.cancel("no longer wanted")
        result = await run.result()

    assert result.status == "cancelled"


async def test_models_of_the_program_answer_by_name(folder: Path) -> None:
    call = CallPart(provider_id="c", tool="lookUp", arguments='{"name": "Bob"}')
    seven = ModelReply((TextPart(text="7"),), "end", None)
    replies = [ModelReply((call,), "tool_calls", None), seven]
    models = {"mine": ScriptedModel(replies)}

    async with (
        asyncio.timeout(30),
        Peritus.embedded(folder, tools=[LOOK_UP], models=models) as peritus,
    ):
        run = await peritus.start("clerk", "Where is Bob?", model="mine")
        result = await run.result()

    assert result.text == "7"


async def test_an_unknown_expert_is_refused_before_anything_is_stored(folder: Path) -> None:
    async with asyncio.timeout(30), Peritus.embedded(folder) as peritus:
        with pytest.raises(Rejected, match="no expert 'nobody'"):
            await peritus.start("nobody", "Hello?")
