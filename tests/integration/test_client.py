"""Both clients against a real gateway and a worker: all that can be asked. Not cuts."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.errors import NoSuchRun, Rejected, Unavailable
from domain.events import RunCompleted
from domain.ids import RunRef
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from gateway.deps import one_definition
from peritus.client import Beat, End, Frame, Heard, Hello, Invalid, NotAllowed, NotFound, Refused
from tests.support.both_clients import FORMS, Form, FormName, opened
from tests.support.gateway import deps_of, gateway, projecting
from tests.support.people import at_work, calls, rests, state_when, team, waits

pytestmark = pytest.mark.anyio

BOUND_S = 20.0
REF = RunRef("acme", "j1", "j1")
LETTER = calls(("send", '{"to": "ann"}'))
QUESTION = calls(("question", '{"question": "Which colour?"}'))


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> FormName:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def client(backbone: Backbone, tmp_path: Path, form: FormName) -> AsyncGenerator[Form]:
    deps = deps_of(backbone, tmp_path, definitions=one_definition(team))
    async with (
        asyncio.timeout(BOUND_S),
        projecting(backbone, tmp_path),
        gateway(deps) as http,
        opened(form, str(http.base_url)) as found,
    ):
        yield found


def kinds(frames: list[Frame]) -> list[str]:
    return [frame.event.type for frame in frames if isinstance(frame, Heard)]


async def test_run_is_started_heard_and_shown(client: Form, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": ["Done."]}):
        started = await client.start("clerk", "Go", job="j1", limits={"steps_max": 7})
        frames = await client.told(started)
        result = await client.result(started)
    assert isinstance(frames[0], Hello)
    assert kinds(frames)[0] == "run.started.v2"
    assert kinds(frames)[-1] == "run.completed.v2"
    assert isinstance(frames[-1], End)
    assert (frames[-1].run, frames[-1].status) == ("j1", "completed")
    assert (result.status, result.text, result.steps) == ("completed", "Done.", 1)
    run = await client.get("j1", min_position=frames[-1].cursor)
    assert (run.expert, run.status, run.steps_max, run.result) == ("clerk", "completed", 7, "Done.")
    assert [one.run for one in (await client.list(status="completed")).runs] == ["j1"]
    job = await client.job("j1", min_position=frames[-1].cursor)
    assert (job.expert, job.runs, job.waiting) == ("clerk", 1, 0)
    assert [one.job for one in (await client.jobs()).jobs] == ["j1"]
    assert [one.run for one in (await client.tree("j1")).runs] == ["j1"]
    assert [one.step for one in (await client.steps("j1")).steps] == [1]
    assert [one.step for one in (await client.checkpoints("j1")).checkpoints] == [1]
    assert (await client.activities("j1")).activities
    hits = (await client.search("done", min_position=frames[-1].cursor)).hits
    assert [(one.run, one.kind) for one in hits] == [("j1", "text")]
    (row,) = (await client.usage(by=["expert"])).rows
    assert (row.expert, row.runs, row.generations) == ("clerk", 1, 1)
    assert [one.expert for one in (await client.experts()).experts] == ["boss", "clerk"]
    assert (await client.me()).tenant == "acme"


async def test_the_same_key_starts_one_run(client: Form) -> None:
    found = {(await client.start("clerk", "Go", key="k1")).run for _ in range(3)}
    assert len(found) == 1
    assert (await client.start("clerk", "Go")).run not in found


async def test_run_goes_on_and_its_new_result_is_waited_for(
    client: Form, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": ["First.", "Second."]}):
        started = await client.start("clerk", "Go")
        assert (await client.result(started)).text == "First."
        again = await client.continue_(started, "And now?")
        assert (await client.result(again)).text == "Second."


async def test_call_is_approved_as_it_was_shown(client: Form, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": [LETTER, "Sent."]}):
        await client.start("clerk", "Go", job="j1")
        await state_when(backbone, REF, waits)
        (wait,) = (await client.waiting("j1")).waiting
        assert (wait.kind, wait.model_extra["arguments"]) == ("approval", {"to": "ann"})
        stale = wait.model_copy(update={"digest": "0" * 64})
        with pytest.raises(Refused) as refused:
            await client.approve(stale)
        assert refused.value.code == "other_arguments"
        await client.approve(wait, arguments={"to": "ben"}, reason="better")
        assert (await client.result("j1")).text == "Sent."
    (call,) = (await client.tool_calls("j1")).calls
    assert call.result == "sent to ben"


async def test_call_is_denied(client: Form, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": [LETTER, "Not sent."]}):
        await client.start("clerk", "Go", job="j1")
        await state_when(backbone, REF, waits)
        (wait,) = (await client.waiting("j1")).waiting
        await client.deny(wait, reason="not today")
        assert (await client.result("j1")).text == "Not sent."


@pytest.mark.parametrize("by_wait", [True, False])
async def test_question_is_answered(client: Form, backbone: Backbone, by_wait: bool) -> None:  # noqa: FBT001
    async with at_work(backbone, {"clerk": [QUESTION, "Blue it is."]}):
        await client.start("clerk", "Go", job="j1")
        await state_when(backbone, REF, waits)
        (wait,) = (await client.waiting("j1")).waiting
        await client.answer(wait if by_wait else "j1", "blue")
        assert (await client.result("j1")).text == "Blue it is."


async def test_run_is_held_steered_let_go_and_stopped(client: Form, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": [LETTER, "Sent."]}):
        await client.start("clerk", "Go", job="j1")
        await state_when(backbone, REF, waits)
        await client.pause("j1")
        assert (await client.waiting("j1")).paused == ["j1"]
        await client.steer("j1", "Be quick")
        await client.resume("j1")
        await client.cancel("j1", "enough")
        result = await client.result("j1")
    assert result.status == "cancelled"
    assert {"run.paused.v1", "run.resumed.v1", "run.cancelled.v1"} <= set(
        kinds(await client.told("j1"))
    )


async def test_run_is_forked(client: Form, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": ["First.", "Forked."]}):
        started = await client.start("clerk", "Go")
        await client.result(started)
        fork = await client.fork(started, 1, "Another way")
        result = await client.result(fork)
    assert result.text == "Forked."
    run = await client.get(fork)
    assert run.forked_from is not None
    assert run.forked_from.run == started.run


async def test_content_goes_up_and_comes_down(client: Form, backbone: Backbone) -> None:
    stored = await client.upload(b"a,b\n1,2\n", media_type="text/csv")
    assert await client.download(stored.digest) == b"a,b\n1,2\n"
    async with at_work(backbone, {"clerk": ["Read."]}):
        started = await client.start("clerk", "Read this", attachments=[stored])
        assert (await client.result(started)).text == "Read."
    text = str(await client.told(started, types=["input."]))
    assert "1,2" in text


async def test_large_result_is_whole(client: Form, backbone: Backbone) -> None:
    large = "words " * 20_000
    async with at_work(backbone, {"clerk": [large]}):
        result = await client.result(await client.start("clerk", "Go"))
    assert result.text == large


async def test_stream_of_a_job_has_its_children_and_can_be_of_some_events(
    client: Form, backbone: Backbone
) -> None:
    replies: dict[str, list[Any]] = {
        "boss": [calls(("clerk", '{"query": "Write"}')), "All done."],
        "clerk": ["Written."],
    }
    async with at_work(backbone, replies):
        await client.start("boss", "Go", job="j1")
        frames = await client.told(job="j1", types=["run.completed.v2", "delegation."])
    heard = [frame for frame in frames if isinstance(frame, Heard)]
    assert [one.event.type for one in heard] == [
        "delegation.requested.v2",
        "run.completed.v2",
        "delegation.settled.v2",
        "run.completed.v2",
    ]
    assert {one.expert for one in heard} == {"boss", "clerk"}
    assert {one.parent for one in heard} == {None, "j1"}
    (last,) = (frame for frame in frames if isinstance(frame, End))
    assert last.run == "j1"


async def test_stream_goes_on_after_a_cursor(client: Form, backbone: Backbone) -> None:
    async with at_work(backbone, {"clerk": ["Done."]}):
        await client.start("clerk", "Go", job="j1")
        whole = [one for one in await client.told("j1") if isinstance(one, Heard)]
        rest = [
            one for one in await client.told("j1", after=whole[3].cursor) if isinstance(one, Heard)
        ]
    assert rest == whole[4:]
    assert isinstance(whole[-1].event, RunCompleted)


async def test_stream_of_everything_is_left_when_one_has_seen_enough(
    client: Form, backbone: Backbone
) -> None:
    async with at_work(backbone, {"clerk": ["Done."]}):
        await client.start("clerk", "Go", job="j1")
        async for frame in client.stream():
            if isinstance(frame, Heard) and isinstance(frame.event, RunCompleted):
                break
    await state_when(backbone, REF, rests)


async def test_refusals_are_typed(client: Form) -> None:
    with pytest.raises(NotFound):
        await client.get("nobody")
    with pytest.raises(NoSuchRun):
        await client.told("nobody")
    with pytest.raises(Invalid) as unknown:
        await client.start("nobody", "Go")
    assert unknown.value.code == "unknown_expert"
    with pytest.raises(Rejected):
        await client.start("clerk", "Go", job="no such name")


async def test_key_is_sent_and_found(backbone: Backbone, tmp_path: Path, form: FormName) -> None:
    (tmp_path / "gateway.key").write_text("the-key\n")
    async with gateway(deps_of(backbone, tmp_path, token="the-key")) as http:
        url = str(http.base_url)
        async with opened(form, url, "the-key") as client:
            assert (await client.me()).tenant == "acme"
        async with opened(form, url, state_dir=tmp_path) as client:
            assert (await client.me()).tenant == "acme"
        async with opened(form, url, "another") as client:
            with pytest.raises(NotAllowed):
                await client.me()


async def test_nobody_at_the_address_is_told_after_some_tries(form: FormName) -> None:
    async with opened(form, "http://127.0.0.1:9") as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await client.me()
        with pytest.raises(Unavailable, match="cannot be reached"):
            await client.told("j1")


async def test_connection_that_is_silent_is_given_up(form: FormName) -> None:
    """A server that accepts and never says anything: only the time without a byte tells."""
    connected = 0

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server, asyncio.timeout(BOUND_S):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with opened(form, url, silence_s=0.05, reconnects_max=2) as client:
            with pytest.raises(Unavailable):
                await client.told("j1")
    assert connected == 3


async def test_silent_stream_of_a_living_gateway_beats(
    backbone: Backbone, tmp_path: Path, form: FormName
) -> None:
    deps = deps_of(backbone, tmp_path, heartbeat_s=0.02)
    async with asyncio.timeout(BOUND_S), gateway(deps) as http:
        assert isinstance(http, httpx2.AsyncClient)
        async with opened(form, str(http.base_url)) as client:
            async for frame in client.stream():
                if isinstance(frame, Beat):
                    break
