"""Experts as tools over real HTTP, in both eras of the protocol. Not people, and not resources."""

import asyncio
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

from domain import events as e
from domain.definition import Definition, Expert
from domain.ids import RunRef
from domain.limits import Limits
from domain.redaction import Redactor
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from services.loop.models.port import ModelFailure
from tests.support.gateway import working
from tests.support.mcp_server import (
    BOUND_S,
    ERAS,
    TENANT,
    Era,
    Heard,
    connected,
    deps_of,
    facts,
    served,
    text_of,
)
from tests.support.people import CHOICE, at_work, calls, events_of, team

pytestmark = pytest.mark.anyio

NUMBER: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def expert(key: str, **changes: Any) -> Expert:
    return Expert(key=key, instruction="Help.", skills={}, model=CHOICE, **changes)


def of(*experts: Expert, limits: Limits | None = None) -> Definition:
    return Definition(experts={one.key: one for one in experts}, limits=limits or Limits())


def ref_of(run: str) -> RunRef:
    return RunRef(TENANT, run, run)


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.mark.parametrize("era", ERAS)
async def test_a_tool_is_there_for_each_coordinator_with_a_name_that_is_one(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    definition = of(
        expert("helper", description="Helps."),
        expert("boss", delegates=("@boss/clerk",)),
        expert("@boss/clerk"),
        expert("v1.2-tool"),
        expert("peritus_status"),
    )
    deps = deps_of(backbone, tmp_path, definition)
    async with served(deps) as url, connected(url, era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    assert sorted(tools) == sorted(
        {
            "helper",
            "boss",
            *(name for name in tools if name.startswith(("expert__v1_2-tool", "expert__peritus"))),
            "peritus_status",
            "peritus_answer",
            "peritus_cancel",
            "peritus_continue",
        }
    )
    assert len(tools) == 8
    assert tools["helper"].description == "Helps."
    assert tools["helper"].input_schema["required"] == ["query"]
    assert set(tools["helper"].input_schema["properties"]) == {"query", "max_steps", "budget_usd"}
    assert {tool.title for tool in tools.values()} >= {"v1.2-tool", "peritus_status"}


async def test_only_experts_are_there_when_that_is_wanted(
    backbone: Backbone, tmp_path: Path
) -> None:
    deps = deps_of(backbone, tmp_path, of(expert("helper")), experts_only=True)
    async with served(deps) as url, connected(url) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        with pytest.raises(MCPError, match="Unknown tool: peritus_status"):
            await client.call_tool("peritus_status", {"run": "x"})

    assert names == ["helper"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_waits_for_the_end_and_tells_each_step_with_a_number_that_grows(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    definition = of(expert("boss", delegates=("@boss/clerk",)), expert("@boss/clerk"))
    replies: dict[str, list[Any]] = {
        "boss": [calls(("clerk", '{"query": "Write."}')), "Good."],
        "@boss/clerk": ["Done."],
    }
    heard = Heard()
    deps = deps_of(backbone, tmp_path, definition)
    async with (
        at_work(backbone, replies),
        served(deps) as url,
        connected(url, era) as client,
    ):
        result = await client.call_tool("boss", {"query": "Go"}, progress_callback=heard)

    assert (text_of(result), result.is_error) == ("Good.", False)
    assert facts(result, "status") == "completed"
    assert heard.texts[0] == f"run {facts(result, 'run')} is at work"
    numbers = [number for number, _ in heard.lines]
    assert numbers == sorted(set(numbers))
    told = " / ".join(heard.texts)
    assert "boss, step 2: asks the model" in told
    assert "@boss/clerk, step 1: has completed" in told
    started = await events_of(backbone, ref_of(facts(result, "run")))
    assert isinstance(started[0], e.RunStarted)
    assert started[0].by == e.Principal(name="ada", via="mcp")


@pytest.mark.parametrize("era", ERAS)
async def test_typed_input_goes_in_and_typed_output_comes_out(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    words = {"type": "array", "items": {"type": "string"}}
    definition = of(
        expert("twice", input_schema=NUMBER, output_schema=NUMBER),
        expert("listing", input_schema=NUMBER, output_schema=words),
    )
    replies = {
        "twice": ['{"n":14}'],
        "listing": ['["a", "b"]'],
    }
    async with (
        at_work(backbone, replies),
        served(deps_of(backbone, tmp_path, definition)) as url,
        connected(url, era) as client,
    ):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        twice = await client.call_tool("twice", {"n": 7})
        listing = await client.call_tool("listing", {"n": 7, "max_steps": 3})
        wrong = await client.call_tool("twice", {"n": "seven"})

    assert tools["twice"].output_schema == NUMBER
    assert twice.structured_content == {"n": 14}
    assert (text_of(twice), twice.is_error) == ('{"n":14}', False)
    assert listing.structured_content == {"result": ["a", "b"]}
    assert wrong.is_error
    assert facts(wrong, "reason")["kind"] == "bad_input"
    told = await events_of(backbone, ref_of(facts(listing, "run")))
    assert isinstance(told[0], e.RunStarted)
    assert told[0].limits.steps_max == 3


async def test_a_caller_lowers_limits_and_never_raises_them(
    backbone: Backbone, tmp_path: Path
) -> None:
    definition = of(expert("helper"), limits=Limits(steps_max=5))
    limits: list[tuple[int, int | None]] = []
    async with (
        at_work(backbone, {"helper": ["Hi."] * 2}),
        served(deps_of(backbone, tmp_path, definition)) as url,
        connected(url) as client,
    ):
        for asked in ({"max_steps": 3, "budget_usd": 0.25}, {"max_steps": 50}):
            result = await client.call_tool("helper", {"query": "Hi", **asked})
            started = (await events_of(backbone, ref_of(facts(result, "run"))))[0]
            assert isinstance(started, e.RunStarted)
            limits.append((started.limits.steps_max, started.limits.money_max))
        odd = [
            await client.call_tool("helper", {"query": "Hi", **asked})
            for asked in ({"max_steps": 0}, {"budget_usd": -1}, {"max_step": 3}, {"query": 3})
        ]

    assert limits == [(3, 250_000), (5, None)]
    assert [one.is_error for one in odd] == [True] * 4
    assert {facts(one, "reason")["kind"] for one in odd} == {"bad_input"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_run_that_fails_or_is_stopped_is_an_error_in_plain_words(
    backbone: Backbone, tmp_path: Path, era: Era
) -> None:
    definition = of(expert("breaks"), expert("never"), limits=Limits(steps_max=1))
    canary = "canary-51c4-secret-value"
    replies: dict[str, list[Any]] = {
        "breaks": [ModelFailure(kind="rejected", message=f"no such model {canary}")],
        "never": [calls(("nothing", "{}")), "unreached"],
    }
    deps = deps_of(
        backbone, tmp_path, definition, redactor=lambda: Redactor([("MODEL_KEY", canary)])
    )
    async with at_work(backbone, replies), served(deps) as url, connected(url, era) as client:
        failed = await client.call_tool("breaks", {"query": "Go"})
        stopped = await client.call_tool("never", {"query": "Go"})

    assert failed.is_error
    assert "failed. rejected: no such model [secret:MODEL_KEY]" in text_of(failed)
    assert facts(failed, "reason")["kind"] == "failed"
    assert canary not in failed.model_dump_json()
    assert stopped.is_error
    assert "was stopped at its limit of steps" in text_of(stopped)
    assert facts(stopped, "reason") == {"kind": "stopped", "limit": "steps"}


async def test_an_unknown_tool_is_an_error_of_the_protocol_and_nothing_is_started(
    backbone: Backbone, tmp_path: Path
) -> None:
    async with served(deps_of(backbone, tmp_path, team())) as url, connected(url) as client:
        with pytest.raises(MCPError) as unknown:
            await client.call_tool("nobody", {"query": "Go"})
        empty = await client.call_tool("clerk", {"query": "  "})
        missing = await client.call_tool("clerk")

    assert unknown.value.code == types.INVALID_PARAMS
    assert [facts(one, "reason")["kind"] for one in (empty, missing)] == ["bad_query"] * 2
    assert (await backbone.log.bounds())[1] == 0


async def test_many_calls_at_once_each_get_their_own_result(
    backbone: Backbone, tmp_path: Path
) -> None:
    experts = [expert(f"e{number}") for number in range(40)]
    replies = {one.key: [f"I am {one.key}."] for one in experts}
    async with (
        at_work(backbone, replies),
        served(deps_of(backbone, tmp_path, of(*experts))) as url,
        connected(url, "legacy") as one,
        connected(url, "auto") as two,
        asyncio.TaskGroup() as tasks,
    ):
        made = [
            tasks.create_task((one, two)[at % 2].call_tool(x.key, {"query": "Who?"}))
            for at, x in enumerate(experts)
        ]

    assert [text_of(call.result()) for call in made] == [f"I am {x.key}." for x in experts]


async def test_more_calls_than_are_taken_are_refused_and_the_others_go_on(
    backbone: Backbone, tmp_path: Path
) -> None:
    heard, gate = Heard(), asyncio.Event()
    async with (
        working(backbone, lambda: gate),
        served(deps_of(backbone, tmp_path, of(expert("slow")), calls_max=1)) as url,
        connected(url) as client,
        asyncio.TaskGroup() as tasks,
    ):
        first = tasks.create_task(
            client.call_tool("slow", {"query": "Go"}, progress_callback=heard)
        )
        await heard.run()
        second = await client.call_tool("slow", {"query": "Go"})
        gate.set()

    assert facts(second, "reason")["kind"] == "busy"
    assert text_of(first.result()) == "done"


async def test_silence_is_filled_with_signs_of_life(backbone: Backbone, tmp_path: Path) -> None:
    heard, gate = Heard(), asyncio.Event()
    deps = deps_of(backbone, tmp_path, of(expert("slow")), heartbeat_s=0.01)
    async with working(backbone, lambda: gate), served(deps) as url, connected(url) as client:
        await heard_often(client, heard, gate)

    numbers = [number for number, _ in heard.lines]
    assert numbers == sorted(set(numbers))


async def heard_often(client: Client, heard: Heard, gate: asyncio.Event) -> None:
    """Call, and let the model answer only when its work was told of three times."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client.call_tool("slow", {"query": "Go"}, progress_callback=heard))
        await heard.until("slow, step 1: asks the model")
        while heard.texts.count("slow, step 1: asks the model") < 3:
            heard.changed.clear()
            async with asyncio.timeout(BOUND_S):
                await heard.changed.wait()
        gate.set()
