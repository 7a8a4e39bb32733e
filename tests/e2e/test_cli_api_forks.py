"""`peritus.api` forks a run from a step, with another result of a tool of its own. Not files."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Rejected
from peritus.api import Peritus, tool
from services.worker.toolbox import ToolCall
from tests.e2e.clerk import DEFINITION

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

SCRIPT = """\
[[reply]]
[[reply.call]]
tool = "lookUp"
arguments = { name = "Ada" }
[[reply]]
text = "Somewhere."
expect = "room"
[[reply]]
text = "You are welcome."
"""


async def test_run_is_forked_from_a_step_and_its_calls_are_not_made_again(tmp_path: Path) -> None:
    (tmp_path / "perstack.toml").write_text(DEFINITION)
    (tmp_path / "clerk.toml").write_text(SCRIPT)
    keys: list[str] = []

    def look_up(arguments: dict[str, Any], call: ToolCall) -> str:
        keys.append(call.key)
        return f"{arguments['name']} sits in room 7"

    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    made = tool("lookUp", "Where somebody sits.", schema, look_up)
    async with asyncio.timeout(60), Peritus.embedded(tmp_path, tools=[made]) as peritus:
        run = await peritus.start("clerk", "Where is Ada?")
        assert (await run.result()).text == "Somewhere."
        assert [point.step for point in await run.checkpoints()] == [0, 1, 2]

        other = await run.fork(1, results={"c1-0": "Ada left room 7"}, steps_max=4)
        assert other.ref != run.ref
        assert (await other.result()).steps == 2
        assert [point.run for point in await other.checkpoints()] == [
            run.ref.run,
            run.ref.run,
            other.ref.run,
        ]
        assert len(keys) == 1

        again = await run.fork(0, "Where is Bob?")
        await again.result()
        assert len(set(keys)) == len(keys) == 2

        with pytest.raises(Rejected, match="there are: 0 to 2"):
            await run.fork(7)
