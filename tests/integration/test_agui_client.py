"""The protocol's own client, of npm, on a real gateway with a worker. Not the protocol's events."""

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.content import TextPart, ThinkingPart
from domain.ids import RunRef
from domain.limits import Limits, Usage
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition
from services.loop.models.port import ModelFailure, ModelReply
from tests.support.gateway import deps_of, gateway
from tests.support.people import Office, at_work, calls, rests, state_when, team
from tests.support.registries import missing
from tests.support.speaking import Speaker, speaking

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.registries,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

CLIENT = "@ag-ui/client@1.0.0"
DRIVER = Path(__file__).parents[1] / "support" / "agui_client.mjs"
KEY = "the-key"
BOUND_S = 30.0
INSTALL_S = 120.0
LETTER = calls(("send", '{"to": "ann"}'), text="A letter.")
QUESTION = calls(("question", '{"question": "Which colour?"}'))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver beside the client's package, fetched from its registry."""
    folder = tmp_path_factory.mktemp("agui")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", CLIENT]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_S)
    return Path(shutil.copy(DRIVER, folder))


@dataclass
class Done:
    """What the client has after one turn."""

    events: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    state: dict[str, Any]
    interrupts: list[dict[str, Any]]
    failed: str | None

    @property
    def types(self) -> list[str]:
        return [one["type"] for one in self.events]

    def said(self) -> list[tuple[str, str]]:
        """Role and text of each message, calls by their names."""
        return [
            (one["role"], one.get("content") or _calls(one))
            for one in self.messages
            if one["role"] != "reasoning"
        ]


def _calls(message: dict[str, Any]) -> str:
    return " ".join(call["function"]["name"] for call in message.get("toolCalls", []))


@dataclass
class Page:
    """A page in which the client lives."""

    process: asyncio.subprocess.Process
    told: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def act(self, **action: Any) -> Done:
        await self.begin(**action)
        return await self.done()

    async def begin(self, **action: Any) -> None:
        assert self.process.stdin is not None
        self.told.clear()
        self.process.stdin.write(json.dumps(action).encode() + b"\n")
        await self.process.stdin.drain()

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of that type."""
        while True:
            line = await self._line()
            assert "event" in line, line
            self.told.append(line["event"])
            if line["event"]["type"] == kind:
                return self.told[-1]

    async def done(self) -> Done:
        while "event" in (line := await self._line()):
            self.told.append(line["event"])
        found = line["done"]
        return Done(
            list(self.told),
            found["messages"],
            found["state"],
            found.get("pendingInterrupts") or [],
            found["failed"],
        )

    async def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "the client ended"
        return json.loads(line)  # type: ignore[no-any-return]


@dataclass
class Site:
    """A gateway, and the pages that people open."""

    url: str
    driver: Path
    backbone: Backbone
    http: httpx2.AsyncClient

    @asynccontextmanager
    async def page(self, expert: str = "clerk", thread: str = "t1") -> AsyncGenerator[Page]:
        url = f"{self.url}/v1/agui/{expert}" if expert else f"{self.url}/v1/agui"
        process = await asyncio.create_subprocess_exec(
            "node",
            self.driver,
            url,
            KEY,
            thread,
            cwd=self.driver.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=8 * 1024 * 1024,
        )
        try:
            async with asyncio.timeout(BOUND_S):
                yield Page(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
async def site(driver: Path, tmp_path: Path) -> AsyncGenerator[Site]:
    limits = Limits(retry_base_ms=1, retry_max_ms=1)
    backbone = MemoryServer(now_ms=lambda: time.time_ns() // 1_000_000).backbone()
    definitions = one_definition(lambda: team(limits=limits))
    async with gateway(deps_of(backbone, tmp_path, definitions=definitions, token=KEY)) as http:
        yield Site(str(http.base_url).rstrip("/"), driver, backbone, http)


async def test_text_is_told_as_it_is_made_and_the_conversation_goes_on(site: Site) -> None:
    speaker = Speaker()
    async with speaking(site.backbone, speaker), site.page() as page:
        await page.begin(say="Hello")
        for piece in ("Good ", "morning."):
            speaker.say(piece)
            assert (await page.event("TEXT_MESSAGE_CONTENT"))["delta"] == piece
        speaker.stop()
        first = await page.done()
        speaker.say("And good night.")
        speaker.stop()
        second = await page.act(say="Is that all?")
    assert first.failed is None
    assert first.said() == [("user", "Hello"), ("assistant", "Good morning.")]
    assert first.state["status"] == "completed"
    assert second.said() == [
        ("user", "Hello"),
        ("assistant", "Good morning."),
        ("user", "Is that all?"),
        ("assistant", "And good night."),
    ]
    assert "MESSAGES_SNAPSHOT" in second.types
    assert second.types[0] == "RUN_STARTED"
    assert second.types[-1] == "RUN_FINISHED"
    assert second.events[-1]["usage"] == [
        {
            "provider": "scripted",
            "model": "m1",
            "inputTokens": 3,
            "outputTokens": 1,
            "totalTokens": 4,
            "reasoningTokens": 0,
            "cachedInputTokens": 0,
            "cacheWriteInputTokens": 0,
        }
    ]


async def test_tool_calls_are_told_with_arguments_and_results(site: Site) -> None:
    replies = [calls(("look", '{"at": "this"}'), text="I look."), "I saw it."]
    async with at_work(site.backbone, {"clerk": replies}), site.page() as page:
        done = await page.act(say="Look")
    assert done.failed is None
    assert done.said() == [
        ("user", "Look"),
        ("assistant", "I look."),
        ("tool", "sent to None"),
        ("assistant", "I saw it."),
    ]
    (call,) = done.messages[1]["toolCalls"]
    assert call["function"] == {"name": "look", "arguments": '{"at": "this"}'}
    assert done.messages[2]["toolCallId"] == call["id"]
    for one in ("STEP", "TOOL_CALL"):
        assert f"{one}_STARTED" in done.types or f"{one}_START" in done.types


async def test_thoughts_are_reasoning(site: Site) -> None:
    block = json.dumps({"type": "thinking", "thinking": "Let me see.", "signature": "s"})
    thinking = ThinkingPart(provider="anthropic", block=block)
    reply = ModelReply((thinking, TextPart(text="Seen.")), "end", Usage())
    async with at_work(site.backbone, {"clerk": [reply]}), site.page() as page:
        done = await page.act(say="Think")
    assert done.failed is None
    assert [(one["role"], one["content"]) for one in done.messages] == [
        ("user", "Think"),
        ("reasoning", "Let me see."),
        ("assistant", "Seen."),
    ]


@pytest.mark.parametrize(
    ("answer", "sent"),
    [
        ({"approved": True}, [{"to": "ann"}]),
        ({"approved": True, "editedArgs": {"to": "ben"}}, [{"to": "ben"}]),
        ({"approved": False, "reason": "no"}, []),
        (None, []),
    ],
)
async def test_approval_is_an_interrupt_that_is_answered(
    site: Site, answer: dict[str, Any] | None, sent: list[dict[str, str]]
) -> None:
    office = Office()
    async with at_work(site.backbone, {"clerk": [LETTER, "Over."]}, office), site.page() as page:
        asked = await page.act(say="Write")
        (interrupt,) = asked.interrupts
        assert interrupt["reason"] == "tool_call"
        assert interrupt["toolCallId"] == asked.messages[-1]["toolCalls"][0]["id"]
        assert interrupt["metadata"]["peritus"]["arguments"] == {"to": "ann"}
        assert office.sent == []
        over = await (
            page.act(cancel=True) if answer is None else page.act(resume={"tool_call": answer})
        )
    assert over.failed is None
    assert over.interrupts == []
    assert over.said()[-1] == ("assistant", "Over.")
    assert office.sent == sent


@pytest.mark.parametrize(
    "answer", [{"resume": {"input_required": "blue"}}, {"tool": {"question": "blue"}}]
)
async def test_question_is_an_interrupt_or_a_tool_of_the_page(
    site: Site, answer: dict[str, Any]
) -> None:
    async with at_work(site.backbone, {"clerk": [QUESTION, "Blue."]}), site.page() as page:
        asked = await page.act(say="Paint")
        (interrupt,) = asked.interrupts
        assert (interrupt["reason"], interrupt["message"]) == ("input_required", "Which colour?")
        over = await page.act(**answer)
    assert over.failed is None
    assert over.said() == [
        ("user", "Paint"),
        ("assistant", "question"),
        ("tool", "blue"),
        ("assistant", "Blue."),
    ]


async def test_delegates_are_subagents_also_over_an_interrupt(site: Site) -> None:
    replies: dict[str, list[Any]] = {
        "boss": [calls(("clerk", '{"query": "Write"}'), text="The clerk."), "All done."],
        "clerk": [LETTER, "Sent."],
    }
    async with at_work(site.backbone, replies), site.page("boss") as page:
        asked = await page.act(say="Go")
        over = await page.act(resume={"tool_call": {"approved": True}})
    assert asked.failed is None
    (started,) = (one for one in asked.events if one["type"] == "SUBAGENT_STARTED")
    assert started["name"] == "clerk"
    assert asked.interrupts[0]["subagentRunId"] == started["subagentRunId"]
    assert over.failed is None
    assert over.said()[-1] == ("assistant", "All done.")
    assert {one.get("subagentRunId") for one in over.messages} == {None, started["subagentRunId"]}
    assert len(over.state["runs"]) == 2


async def test_page_that_comes_again_has_the_history(site: Site) -> None:
    async with at_work(site.backbone, {"clerk": [LETTER, "Sent.", "More."]}):
        async with site.page() as page:
            asked = await page.act(say="Write")
        async with site.page() as page:
            again = await page.act()
            assert again.failed is None
            assert again.said() == asked.said()
            assert again.interrupts == asked.interrupts
            await page.act(resume={"tool_call": {"approved": True}})
        async with site.page("", "t1") as page:
            over = await page.act()
            more = await page.act(say="And?")
    assert over.said() == [
        ("user", "Write"),
        ("assistant", "A letter."),
        ("tool", "sent to ann"),
        ("assistant", "Sent."),
    ]
    assert over.types[-1] == "RUN_FINISHED"
    assert more.said()[-2:] == [("user", "And?"), ("assistant", "More.")]


async def test_what_others_said_is_in_its_place(site: Site) -> None:
    async with at_work(site.backbone, {"clerk": ["One.", "Two.", "Three."]}), site.page() as page:
        await page.act(say="First")
        headers = {"Authorization": f"Bearer {KEY}"}
        body = {"query": "Second"}
        said = await site.http.post("/v1/runs/t1/continue", json=body, headers=headers)
        assert said.status_code == 202
        await state_when(site.backbone, RunRef("acme", "t1", "t1"), lambda one: one.step == 2)
        await state_when(site.backbone, RunRef("acme", "t1", "t1"), rests)
        done = await page.act(say="Third")
    assert done.failed is None
    assert [text for _, text in done.said()] == [
        "First",
        "One.",
        "Second",
        "Two.",
        "Third",
        "Three.",
    ]


async def test_page_that_leaves_in_the_middle_stops_nothing_and_comes_back_into_the_turn(
    site: Site,
) -> None:
    speaker = Speaker()
    async with speaking(site.backbone, speaker):
        async with site.page() as page:
            await page.begin(say="Hello", runId="r1", leaveAt="TEXT_MESSAGE_CONTENT")
            speaker.say("Good ")
            await page.done()
            speaker.say("mor")
            await page.begin(runId="r1")
            await page.event("TEXT_MESSAGE_CONTENT")
            speaker.say("ning.")
            speaker.stop()
            again = await page.done()
        await state_when(site.backbone, RunRef("acme", "t1", "t1"), rests)
    assert again.failed is None
    assert again.said() == [("user", "Hello"), ("assistant", "Good morning.")]


async def test_reply_that_breaks_off_is_taken_back(site: Site) -> None:
    speaker = Speaker()
    async with speaking(site.backbone, speaker), site.page() as page:
        await page.begin(say="Hello")
        speaker.say("Goo")
        await page.event("TEXT_MESSAGE_CONTENT")
        speaker.fall()
        await page.event("MESSAGES_SNAPSHOT")
        speaker.say("Hello to you.")
        speaker.stop()
        done = await page.done()
    assert done.failed is None
    assert done.said() == [("user", "Hello"), ("assistant", "Hello to you.")]


async def test_run_that_fails_is_an_error(site: Site) -> None:
    failure = ModelFailure(kind="rejected", message="no such model")
    async with at_work(site.backbone, {"clerk": [failure]}), site.page() as page:
        done = await page.act(say="Hello")
    assert done.types[-1] == "RUN_ERROR"
    assert "no such model" in done.events[-1]["message"]


async def test_refusal_reaches_the_page(site: Site) -> None:
    async with site.page("nobody") as page:
        done = await page.act(say="Hello")
    assert done.failed is not None
    assert "no such expert" in done.failed
