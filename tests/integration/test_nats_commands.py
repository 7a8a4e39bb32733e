"""The program of the docs that decides over NATS, with nothing but nats-py. Not our own client."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from nats.aio.client import Client

from domain import events as e
from domain.commands import StartRun
from domain.content import TextPart, text_of
from domain.definition import Definition
from domain.ids import RunRef
from eventlog.embedded import EmbeddedServer
from eventlog.jetstream.backbone import connect_backbone
from eventlog.port import Backbone
from peritus.ids import new_id
from peritus.jobs import by_request
from tests.support.asking_box import AskingBox
from tests.support.people import Office, at_work, calls, events_of, rests, state_when, team, waits

pytestmark = [pytest.mark.anyio, pytest.mark.broker]

DOCS = Path(__file__).parents[2] / "docs" / "events.md"
TOKEN = "only-for-tests"
REF = RunRef("default", "j1", "j1")
REPLIES: dict[str, list[Any]] = {"clerk": [calls(("send", '{"to": "Ada"}')), "Sent."]}

Decide = Callable[..., Awaitable[dict[str, Any]]]


def program() -> Decide:
    """The function of the docs."""
    (code,) = re.findall(
        r"^```python\n(import json\n.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    return cast("Decide", names["decide_first"])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "s", durability="process", token=TOKEN) as running:
        yield running


@pytest.fixture
async def backbone(server: EmbeddedServer) -> AsyncGenerator[Backbone]:
    async with connect_backbone(server.url, token=TOKEN, durability="process") as connected:
        yield connected


async def begin(backbone: Backbone, definition: Definition) -> None:
    digest = await backbone.blobs.put(REF.tenant, definition.to_bytes())
    parts = (TextPart(text="Go"),)
    start = StartRun(id=new_id(), expert="clerk", definition=digest, parts=parts)
    await by_request(backbone)(REF, start)


async def test_a_program_with_only_nats_decides_about_what_it_has_shown(
    server: EmbeddedServer, backbone: Backbone
) -> None:
    office, shown = Office(), list[tuple[str, str]]()

    def decide(tool: str, arguments: str) -> bool:
        shown.append((tool, arguments))
        return True

    async with asyncio.timeout(30), at_work(backbone, REPLIES, office):
        async with asyncio.TaskGroup() as tasks:
            deciding = tasks.create_task(_run(program(), server.url, decide))
            await begin(backbone, team())
        answer = deciding.result()
        await state_when(backbone, REF, rests)

    assert answer["status"] == "accepted"
    assert shown == [("send", '{"to": "Ada"}')]
    assert office.sent == [{"to": "Ada"}]
    decided = [one for one in await events_of(backbone, REF) if isinstance(one, e.ApprovalDecided)]
    assert [one.by for one in decided] == [e.Principal(name="the night shift", via="nats")]


async def _run(decide_first: Decide, url: str, decide: Callable[..., bool]) -> dict[str, Any]:
    return await decide_first(url, TOKEN, "j1", "j1", decide)


async def test_what_a_program_decides_while_nobody_works_is_stored_and_decided_later(
    server: EmbeddedServer, backbone: Backbone
) -> None:
    office = Office()
    async with asyncio.timeout(30):
        async with at_work(backbone, REPLIES, office):
            await begin(backbone, team())
            await state_when(backbone, REF, waits)
        answer = await _run(program(), server.url, lambda *_: False)
        async with at_work(backbone, REPLIES, office, epoch="ep2"):
            state = await state_when(backbone, REF, rests)

    assert answer == {"status": "stored"}
    assert (state.status, office.sent) == ("completed", [])
    ended = [one for one in await events_of(backbone, REF) if isinstance(one, e.ToolCallEnded)]
    assert [one.outcome for one in ended] == ["refused"]


async def test_a_decision_about_something_else_is_rejected_with_its_code(
    server: EmbeddedServer, backbone: Backbone
) -> None:
    async with asyncio.timeout(30), at_work(backbone, REPLIES):
        await begin(backbone, team())
        await state_when(backbone, REF, waits)
        connection = Client()
        await connection.connect(server.url, token=TOKEN)
        try:
            answers = [
                (await connection.request("peritus.ask.default.j1.j1", data, timeout=5)).data
                for data in (
                    b'{"type":"decide_approval.v1","id":"a","approval":"c1-0","approve":true,'
                    b'"digest":"ff"}',
                    b'{"type":"answer_question.v1","id":"b","call":"c1-0","parts":[]}',
                    b'{"type":"decide_approval.v1","id":"c"}',
                )
            ]
        finally:
            await connection.close()

    codes = [re.search(rb'"code":"(\w+)"', answer) for answer in answers]
    assert [found and found[1] for found in codes] == [
        b"other_arguments",
        b"not_waiting",
        b"malformed",
    ]


async def test_a_program_with_only_nats_answers_what_a_tool_asks(
    server: EmbeddedServer, backbone: Backbone
) -> None:
    replies: dict[str, list[Any]] = {"clerk": [calls(("look", "{}")), "Done."]}
    said = {"type": "answer_ask.v1", "by": {"name": "the night shift", "via": "nats"}}
    async with asyncio.timeout(30), at_work(backbone, replies, asking=AskingBox):
        await begin(backbone, team())
        state = await state_when(backbone, REF, waits)
        asked = {**said, "ask": state.questions[0].id}
        connection = Client()
        await connection.connect(server.url, token=TOKEN)
        try:
            answers = [
                (await connection.request("peritus.ask.default.j1.j1", data, timeout=5)).data
                for data in (
                    json.dumps({**asked, "id": "a", "content": {"count": "two"}}).encode(),
                    json.dumps({**asked, "id": "b", "content": {"count": 2}}).encode(),
                    json.dumps({**asked, "id": "c", "content": {"count": 3}}).encode(),
                )
            ]
        finally:
            await connection.close()
        await state_when(backbone, REF, rests)

    told = [json.loads(answer) for answer in answers]
    assert [one["status"] for one in told] == ["rejected", "accepted", "rejected"]
    assert "count: 'two' is not of type 'integer'" in told[0]["detail"]
    assert told[2]["code"] == "not_waiting"
    events = await events_of(backbone, REF)
    (given,) = [one for one in events if isinstance(one, e.ToolCallAnswered)]
    assert (given.by.name, given.content) == ("the night shift", {"count": 2})
    ended = [one for one in events if isinstance(one, e.ToolCallEnded)]
    assert text_of(ended[0].content) == "accept {'count': 2}"
