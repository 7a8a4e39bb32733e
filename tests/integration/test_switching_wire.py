"""A run that goes on with another model in the middle: every server accepts its requests (C19).

The servers are as strict as the providers, and know only the blocks that they gave out themselves.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import pytest

from domain.content import AssistantMessage, CallPart, Message, ThinkingPart, UserMessage
from domain.limits import ModelChoice
from domain.prompt import ModelRequest
from domain.provider_tools import ProviderTool
from services.loop.models.port import ModelReply
from services.loop.models.registry import ModelRegistry
from tests.integration.providers_wire import WAYS, Way
from tests.integration.wire_conversations import calls_of, generate, request_of, result, told
from tests.wire.anthropic import AnthropicFormat
from tests.wire.http import KEY, WireServer, serving
from tests.wire.script import Call, ProviderCall, Reply

pytestmark = pytest.mark.anyio

TOOLS = {"anthropic": "webSearch", "openai": "webSearch"}
AWKWARD = ("functions.exec:0", "x" * 80, "call_0", "")
"""Ids of calls that some servers give and others refuse."""


def _way(provider: str, model: str | None = None, part: str = "") -> Way:
    found = next(way for way in WAYS if way.provider == provider and part in way.model)
    return replace(found, model=model or found.model)


PLAYERS = [
    _way("anthropic", "claude-opus-4-8"),  # thinks adaptively
    _way("anthropic", "claude-haiku-4-5"),  # thinks with a budget
    _way("openai"),
    _way("openai", "gpt-5.2"),
    _way("openai-chat"),
    _way("deepseek"),
    _way("google"),
    _way("amazon-bedrock"),
]
KEYS = {name: key for way in PLAYERS for name, key in way.keys.items()}


@dataclass
class Player:
    """A way, its server, and how it is asked."""

    way: Way
    wire: WireServer
    registry: ModelRegistry

    @property
    def choice(self) -> ModelChoice:
        return self.way.choice(self.wire.url, reasoning="low")

    async def step(self, messages: tuple[Message, ...], number: int) -> ModelReply:
        """Ask for the next step, of which everything is kept that the provider has."""
        tool = TOOLS.get(self.way.provider)
        given = AWKWARD if self.way.wire == "openai-chat" else (None, None)
        self.wire.will(
            Reply(
                thinking=f"Thought {number} of {self.way.model}.",
                provider=(ProviderCall("search"),) if tool else (),
                text=f"Said {number}.",
                cited=tool is not None,
                calls=tuple(Call("exec", '{"n": 1}', one) for one in given),
            )
        )
        asked = request_of(*messages, model=self.way.model)
        changes: dict[str, Any] = {"model": self.choice}
        if tool:
            changes["provider_tools"] = (ProviderTool(name=tool),)
        context = asked.context.model_copy(update=changes)
        request = ModelRequest(context, messages, asked.digest, {})
        reply, _ = await generate(self.registry, request)
        return reply


@asynccontextmanager
async def playing(*ways: Way) -> AsyncGenerator[list[Player]]:
    async with AsyncExitStack() as stack:
        registry = ModelRegistry(KEYS.get, timeout_s=10)
        stack.push_async_callback(registry.aclose)
        players: list[Player] = []
        for way in ways:
            # Two models of one provider are on one server.
            same = [one.wire for one in players if one.way.provider == way.provider]
            wire = same[0] if same else await stack.enter_async_context(serving(way.format()))
            players.append(Player(way, wire, registry))
        yield players


def gone_on(messages: tuple[Message, ...], reply: ModelReply) -> tuple[Message, ...]:
    answers = tuple(result(call, "ok") for call in calls_of(reply))
    return (*messages, AssistantMessage(parts=reply.parts), UserMessage(parts=answers))


def own_blocks(reply: ModelReply) -> list[str]:
    blocks = [json.loads(str(p.block)) for p in reply.parts if isinstance(p, ThinkingPart)]
    return [json.dumps(block, sort_keys=True) for block in blocks]


def sent_blocks(wire: WireServer) -> list[str]:
    """Everything in the conversation that was sent, however deep."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.append(json.dumps(value, sort_keys=True))
            for inner in value.values():  # pyright: ignore[reportUnknownVariableType]
                walk(inner)
        elif isinstance(value, list):
            for inner in value:  # pyright: ignore[reportUnknownVariableType]
                walk(inner)

    walk(wire.last.get("messages") or wire.last.get("input"))
    return found


@pytest.mark.parametrize(("one", "other"), [*combinations(PLAYERS, 2)], ids=str)
async def test_run_goes_on_with_another_model_and_comes_back(one: Way, other: Way) -> None:
    async with playing(one, other) as players:
        messages: tuple[Message, ...] = (told("go"),)
        made: dict[str, list[str]] = {one.model: [], other.model: []}
        for number, who in enumerate((0, 0, 1, 1, 0, 1)):
            player = players[who]
            reply = await player.step(messages, number)
            sent = sent_blocks(player.wire)
            foreign = made[players[1 - who].way.model]
            assert [block for block in foreign if block in sent] == []
            if player.way.wire in {"anthropic", "openai-responses"}:
                assert [block for block in made[player.way.model] if block not in sent] == []
            made[player.way.model] += own_blocks(reply)
            messages = gone_on(messages, reply)
        # And a person speaks, with which the turn ends.
        await players[0].step((*messages, told("so?")), 9)


@pytest.mark.parametrize("way", PLAYERS, ids=str)
async def test_each_model_sees_its_own_history_begin_as_it_did(way: Way) -> None:
    """Whoever spoke in between: the prefix stays, and with it the cache (C20) and signatures."""
    others = [one for one in PLAYERS if one.provider != way.provider][:2]
    async with playing(way, *others) as players:
        messages: tuple[Message, ...] = (told("go"),)
        before: list[Any] = []
        for number in range(6):
            player = players[number % 3]
            reply = await player.step(messages, number)
            messages = gone_on(messages, reply)
            if player is players[0]:
                body = player.wire.last
                now = _unmarked(body.get("messages") or body.get("input"))
                assert now[: len(before)] == before
                before = now


def _unmarked(value: Any) -> Any:
    return json.loads(json.dumps(value), object_hook=_without_marks)


def _without_marks(value: dict[str, Any]) -> dict[str, Any]:
    return {key: inner for key, inner in value.items() if key != "cache_control"}


async def test_turn_that_another_model_began_is_gone_on_without_thinking_until_it_ends() -> None:
    haiku, chat = PLAYERS[1], PLAYERS[4]
    async with playing(chat, haiku) as (first, second):
        messages: tuple[Message, ...] = (told("go"),)
        messages = gone_on(messages, await first.step(messages, 0))
        messages = gone_on(messages, await second.step(messages, 1))
        assert "thinking" not in second.wire.last
        assert isinstance(second.wire.format, AnthropicFormat)
        reply = await second.step(messages, 2)
        assert "thinking" not in second.wire.last
        await second.step((*gone_on(messages, reply), told("and now?")), 3)
        assert "thinking" not in second.wire.last  # the API joins what people and results say
        calls = calls_of(reply)
        said = AssistantMessage(parts=tuple(p for p in reply.parts if not isinstance(p, CallPart)))
        assert calls
        await second.step((*messages, said, told("and now?")), 4)
        assert second.wire.last["thinking"]["type"] == "enabled"


async def test_blocks_marked_with_the_format_alone_go_to_any_model_of_it() -> None:
    """As runs of before there was more than one model a run have marked them."""
    opus = PLAYERS[0]
    async with playing(opus) as (player,):
        reply = await player.step((told("go"),), 0)
        parts = tuple(
            part.model_copy(update={"provider": "anthropic"})
            if isinstance(part, ThinkingPart)
            else part
            for part in reply.parts
        )
        messages = gone_on((told("go"),), replace(reply, parts=parts))
        await player.step(messages, 1)
        assert set(own_blocks(reply)) <= set(sent_blocks(player.wire))


async def test_gemini_is_told_which_calls_are_of_another_model() -> None:
    chat, gemini = PLAYERS[4], PLAYERS[6]
    async with playing(chat, gemini) as (first, second):
        messages = gone_on((told("go"),), await first.step((told("go"),), 0))
        messages = gone_on(messages, await second.step(messages, 1))
        await second.step(messages, 2)
    said = [one for one in second.wire.last["messages"] if one["role"] == "assistant"]
    signatures = [
        [call.get("extra_content", {}).get("google", {}).get("thought_signature") for call in calls]
        for calls in (one["tool_calls"] for one in said)
    ]
    assert signatures[0] == ["skip_thought_signature_validator", None, None, None]
    assert signatures[1][0].startswith("sig+")
    assert signatures[1][1:] == [None, None, None]


def test_key_is_the_same_for_all_that_share_a_server() -> None:
    assert {way.keys[name] for way in PLAYERS for name in way.keys if "AWS" not in name} == {KEY}
