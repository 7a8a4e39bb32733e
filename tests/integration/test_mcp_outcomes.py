"""What a run remembers of a call whose server was lost: what it may rely on, and no more."""

import asyncio

import pytest

from domain.events import ToolCallEnded
from domain.tools import Safety
from services.tool.mcp.host import McpHost
from services.worker.toolbox import OnOutput, ToolCall, ToolResult
from tests.support.cluster import Cluster, asks, experts, local_tool, script
from tests.support.skills import WORK, Stage, stage

pytestmark = pytest.mark.anyio


class OverMcp:
    """Does every call by the tool of a server. Fills `ToolBox`."""

    def __init__(self, here: Stage) -> None:
        self._here = here

    async def call(self, call: ToolCall, on_output: OnOutput) -> ToolResult:
        host: McpHost = self._here.host
        return await host.call(call, self._here.skill, WORK, self._here.site, on_output)


def never(_: object, call: ToolCall) -> str:
    raise NotImplementedError(call)


async def outcome_of(server: str, safety: Safety) -> tuple[str, bool]:
    """What the log says of one call of a server's tool."""
    async with stage("hostile", server) as here, asyncio.timeout(30):
        cluster = Cluster(
            experts(["work"]),
            script(asks(("work", "{}")), "seen"),
            {"work": local_tool(never, safety)},
            toolbox=OverMcp(here),
        )
        async with cluster.worker("e1"):
            await cluster.start()
            assert (await cluster.rest()).result == "seen"
        (ended,) = [event for event in await cluster.events() if isinstance(event, ToolCallEnded)]
        return ended.outcome, ended.is_error


async def test_a_call_that_may_have_been_executed_has_an_unknown_outcome() -> None:
    assert await outcome_of("dies", Safety.UNSAFE) == ("outcome_unknown", True)


async def test_a_call_that_harms_nobody_has_failed() -> None:
    assert await outcome_of("dies", Safety.READ_ONLY) == ("failed", True)


async def test_a_call_that_was_answered_is_what_the_answer_says() -> None:
    assert await outcome_of("instructs", Safety.UNSAFE) == ("succeeded", False)


async def test_a_call_that_was_not_sent_has_failed() -> None:
    assert await outcome_of("changes_at_once", Safety.UNSAFE) == ("failed", True)
