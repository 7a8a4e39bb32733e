"""The whole worker over the in-memory form: runs from their start to their rest."""

import asyncio
from typing import Any

import pytest

from domain.commands import COMMAND, CancelRun, ContinueRun, StartRun
from domain.content import BlobRef, TextPart, text_of
from domain.definition import LocalSkill
from domain.envelope import decode
from domain.errors import Rejected
from domain.events import GenerationCompleted, ToolCallClaimed, ToolCallEnded
from domain.ids import RunRef
from domain.limits import Limits
from domain.prompt import ModelRequest
from domain.record import canonical
from domain.tools import Safety
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.scripted import Replies
from services.tool.local import ToolFailed
from services.worker.toolbox import ToolCall
from tests.support.cluster import REF, Cluster, Generate, asks, experts, local_tool, script

pytestmark = pytest.mark.anyio


async def echo(arguments: dict[str, Any], call: ToolCall) -> str:
    return f"{call.tool} of {call.key}: {arguments}"


def one_tool(*replies: Any, **by_expert: Any) -> Cluster:
    return Cluster(experts(["echo"]), script(*replies, **by_expert), {"echo": local_tool(echo)})


async def test_run_with_tools_and_todos_completes_with_its_result() -> None:
    cluster = one_tool(
        asks(("todo", '{"newTodos": ["look"]}'), ("echo", '{"a": 1}')),
        asks(("attemptCompletion", '{"result": "too early"}')),
        asks(("todo", '{"completedTodos": [0]}'), ("attemptCompletion", '{"result": "done"}')),
    )
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert (state.status, state.result, state.step) == ("completed", "done", 3)
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["succeeded"] * 5
    assert cluster.server.open_runs == {}


@pytest.mark.parametrize("handoff", [True, False])
async def test_all_work_is_done_with_and_without_handing_it_over_directly(
    handoff: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    cluster = one_tool(asks(("echo", "{}"), ("echo", "{}")), "done")
    async with cluster.worker("e1", handoff=handoff):
        await cluster.start()
        assert (await cluster.rest()).result == "done"
    claimed = "generation.claimed.v1" in await cluster.types()
    assert claimed is not handoff


async def test_two_workers_share_runs_and_every_run_completes_once() -> None:
    cluster = one_tool(asks(("echo", "{}")), asks(("echo", "{}")), "done")
    refs = [RunRef("acme", f"job{n}", f"run{n}") for n in range(8)]
    async with cluster.worker("e1", handoff=False), cluster.worker("e2", handoff=False):
        for ref in refs:
            await cluster.start(ref)
        for ref in refs:
            await cluster.rest(ref)
    for ref in refs:
        types = await cluster.types(ref)
        assert types.count("run.completed.v2") == 1
        assert types.count("tool_call.ended.v1") == 2


async def test_tool_that_must_not_run_twice_runs_once_though_its_worker_dies_in_it() -> None:
    """Rule 6 and C3: counted outside, where no log can hide it."""
    runs: list[str] = []
    begun = asyncio.Event()

    async def pay(_: dict[str, Any], call: ToolCall) -> str:
        runs.append(call.key)
        begun.set()
        await asyncio.Event().wait()
        raise NotImplementedError

    cluster = Cluster(
        experts(["pay"]), script(asks(("pay", "{}")), "seen"), {"pay": local_tool(pay)}
    )
    async with cluster.worker("e1"):
        await cluster.start()
        await begun.wait()
    cluster.dead.add("e1")
    async with cluster.worker("e2"):
        state = await cluster.rest()
    assert (state.status, state.result) == ("completed", "seen")
    assert len(runs) == 1
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["outcome_unknown"]


async def test_read_only_call_of_a_dead_worker_is_done_by_another_with_the_same_key() -> None:
    """C3."""
    keys: list[str] = []
    begun = asyncio.Event()

    async def look(_: dict[str, Any], call: ToolCall) -> str:
        keys.append(call.key)
        begun.set()
        if len(keys) == 1:
            await asyncio.Event().wait()
        return "seen"

    tools = {"look": local_tool(look, Safety.READ_ONLY)}
    cluster = Cluster(experts(["look"]), script(asks(("look", "{}")), "done"), tools)
    async with cluster.worker("e1"):
        await cluster.start()
        await begun.wait()
    cluster.dead.add("e1")
    async with cluster.worker("e2"):
        assert (await cluster.rest()).result == "done"
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_generation_of_a_dead_worker_is_asked_for_again_and_charged() -> None:
    """Rule 5."""
    begun = asyncio.Event()
    replies = script("done")

    async def hangs_once(request: ModelRequest, on_delta: Any) -> ModelReply:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return await replies(request, on_delta)

    cluster = Cluster(experts(), hangs_once)
    async with cluster.worker("e1"):
        await cluster.start()
        await begun.wait()
    cluster.dead.add("e1")
    async with cluster.worker("e2"):
        state = await cluster.rest()
    assert state.result == "done"
    assert "generation.abandoned.v2" in await cluster.types()
    assert state.tokens_charged > 0


async def test_sixteen_delegates_work_side_by_side_and_all_answer() -> None:
    """Rule 8."""
    at_work = 0
    together = asyncio.Event()

    async def meet(_: dict[str, Any], __: ToolCall) -> str:
        nonlocal at_work
        at_work += 1
        if at_work == 16:
            together.set()
        await together.wait()
        return "met"

    boss: Replies = [asks(*[("helper", f'{{"query": "part {n}"}}') for n in range(16)]), "all done"]
    helper: Replies = [asks(("meet", "{}")), "my part"]
    cluster = Cluster(
        experts(["meet"], ["helper"]),
        script(boss=boss, helper=helper),
        {"meet": local_tool(meet, Safety.IDEMPOTENT)},
    )
    async with cluster.worker("e1"), cluster.worker("e2"):
        await cluster.start()
        state = await cluster.rest()
    assert state.result == "all done"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert [one.outcome for one in ended] == ["succeeded"] * 16
    assert state.tokens_charged == 15 + 16 * 15
    assert cluster.server.open_runs == {}


async def test_cancel_of_a_tree_stops_every_run_of_it() -> None:
    """Rule 9 and C6."""
    begun = asyncio.Semaphore(0)
    ended: list[str] = []

    async def hang(_: dict[str, Any], call: ToolCall) -> str:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(call.ref.run)
        raise NotImplementedError

    boss = [asks(("hang", "{}"), *[("helper", '{"query": "x"}')] * 3)]
    cluster = Cluster(
        experts(["hang"], ["helper"]),
        script(boss=boss, helper=[asks(("hang", "{}"))]),
        {"hang": local_tool(hang)},
    )
    async with cluster.worker("e1"), cluster.worker("e2"):
        await cluster.start()
        for _ in range(4):
            await begun.acquire()
        await cluster.client.submit(REF, CancelRun(id="x"), "x")
        state = await cluster.rest()
    assert state.status == "cancelled"
    assert len(ended) == 4
    outcomes = [e.outcome for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert outcomes == ["cancelled"] * 4
    assert cluster.server.open_runs == {}


async def test_provider_that_fails_is_asked_again_after_its_timer() -> None:
    """C13: rate limited is a wait, not a failure."""
    limits = Limits(retry_base_ms=1)
    busy = ModelFailure("rate_limited", "slow down", 429, retry_after_ms=5)
    attempts = 0
    replies = script("done")

    async def fails_twice(request: ModelRequest, on_delta: Any) -> ModelReply:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise busy
        return await replies(request, on_delta)

    cluster = Cluster(experts(limits=limits), fails_twice)
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert state.result == "done"
    types = await cluster.types()
    assert types.count("timer.fired.v1") == types.count("generation.failed.v2") == 2


async def raises_key_error(_: ModelRequest, __: Any) -> ModelReply:
    raise KeyError


@pytest.mark.parametrize("broken", [raises_key_error], ids=["adapter"])
async def test_provider_adapter_that_breaks_fails_its_run_and_not_the_worker(
    broken: Generate,
) -> None:
    """Rule 5: a poison call cannot crash workers for ever."""
    limits = Limits(generation_attempts_max=2, retry_base_ms=1)
    cluster = Cluster(experts(limits=limits), broken)
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert (state.status, state.failure_kind) == ("failed", "malformed")


async def test_tools_that_fail_or_break_are_told_to_the_model() -> None:
    def fails(_: dict[str, Any], __: ToolCall) -> str:
        raise ToolFailed("no such page")

    def breaks(_: dict[str, Any], __: ToolCall) -> str:
        raise ZeroDivisionError

    def odd(_: dict[str, Any], __: ToolCall) -> str:
        return "lone \ud800 surrogate"

    tools = {"fails": local_tool(fails), "breaks": local_tool(breaks), "odd": local_tool(odd)}
    model = script(asks(("fails", "{}"), ("breaks", "{}"), ("odd", "{}"), ("none", "{}")), "done")
    cluster = Cluster(experts(["fails", "breaks", "odd"]), model, tools)
    async with cluster.worker("e1"):
        await cluster.start()
        assert (await cluster.rest()).result == "done"
    ended = {e.call: e.outcome for e in await cluster.events() if isinstance(e, ToolCallEnded)}
    assert ended == {"c1-0": "failed", "c1-1": "failed", "c1-2": "succeeded", "c1-3": "refused"}


async def test_what_a_person_says_meanwhile_is_heard_before_the_run_ends() -> None:
    asked, heard = asyncio.Event(), asyncio.Event()
    replies = script("first", "second")

    async def waits(request: ModelRequest, on_delta: Any) -> ModelReply:
        asked.set()
        await heard.wait()
        return await replies(request, on_delta)

    cluster = Cluster(experts(), waits)
    async with cluster.worker("e1"):
        await cluster.start()
        await asked.wait()
        said = ContinueRun(id="k1", parts=(TextPart(text="and now?"),))
        await cluster.client.submit(REF, said, "k1")
        heard.set()
        state = await cluster.rest()
    assert (state.step, state.result) == (2, "second")


async def test_run_at_rest_goes_on_and_returns_to_the_index_meanwhile() -> None:
    """C7: a run that works is always where the reconciler looks."""
    asked, go = asyncio.Event(), asyncio.Event()
    replies = script("first", "second")

    async def waits(request: ModelRequest, on_delta: Any) -> ModelReply:
        if len(request.messages) > 1:
            asked.set()
            await go.wait()
        return await replies(request, on_delta)

    cluster = Cluster(experts(), waits)
    async with cluster.worker("e1"):
        await cluster.start()
        await cluster.rest()
        said = ContinueRun(id="k1", parts=(TextPart(text="more"),))
        await cluster.client.submit(REF, said, "k1")
        await asked.wait()
        assert REF in cluster.server.open_runs
        go.set()
        state = await cluster.until(lambda state: state.result == "second")
    assert state.at_rest


async def test_commands_nobody_can_handle_become_dead_letters_with_their_reason() -> None:
    cluster = Cluster(experts(), script("done"))
    put = cluster.outside.commands.put
    async with cluster.worker("e1"):
        await put(REF, b'{"type": "explode.v1"}')
        await put(REF, canonical(ContinueRun(id="k", parts=(TextPart(text="hello"),))))
        nothing = StartRun(id="s", expert="boss", definition="0" * 64, parts=(TextPart(text="x"),))
        await put(RunRef("acme", "job2", "run2"), canonical(nothing))
        async with asyncio.timeout(5):
            while len(await cluster.outside.dead.list(9)) < 3:  # noqa: ASYNC110 - nothing to await
                await asyncio.sleep(0)
    reasons = sorted(letter.reason.split(":")[0] for letter in await cluster.outside.dead.list(9))
    assert reasons == ["malformed", "no_definition", "no_such_run"]


async def test_start_that_is_refused_is_told_to_whoever_asked() -> None:
    cluster = Cluster(experts(), script("done"))
    async with cluster.worker("e1"):
        with pytest.raises(Rejected, match="say what is to be done"):
            await cluster.start(text="")


async def test_delegate_that_cannot_start_ends_its_call_as_failed() -> None:
    """Rule 8: nobody waits for it for ever."""
    model = script(boss=[asks(("helper", '{"query": "x"}')), "went on alone"], helper=["x"])
    definition = experts([], ["helper"])
    unknown = LocalSkill(tools=("nobody_registered_this",))
    helper = definition.expert("helper").model_copy(update={"skills": {"own": unknown}})
    cluster = Cluster(
        definition.model_copy(update={"experts": {**definition.experts, "helper": helper}}), model
    )
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert state.result == "went on alone"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert ended[0].outcome == "failed"
    assert "nobody_registered_this" in text_of(ended[0].content)
    assert cluster.server.open_runs == {}


async def test_delegate_deeper_than_the_limit_is_refused_without_a_run_of_its_own() -> None:
    """Rule 8: depth is bounded, and the model reads why."""
    limits = Limits(depth_max=0)
    model = script(boss=[asks(("helper", '{"query": "x"}')), "went on alone"], helper=["x"])
    cluster = Cluster(experts([], ["helper"], limits), model)
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert state.result == "went on alone"
    ended = [e for e in await cluster.events() if isinstance(e, ToolCallEnded)]
    assert ended[0].outcome == "refused"
    assert "too_deep" in text_of(ended[0].content)
    assert len({stored.ref for stored in cluster.server.log.all}) == 1


async def test_large_texts_are_kept_outside_the_log_and_stored_before_it_names_them() -> None:
    """Rule 13, C1 and C2: 100 KB of input, 200 KB of result, 1 MB in one reply."""
    seen: list[int] = []

    async def big(_: dict[str, Any], __: ToolCall) -> str:
        return "r" * 200_000

    large = tuple((f"{n}" * 25_000) for n in range(40))

    async def model(request: ModelRequest, _: Any) -> ModelReply:
        seen.append(sum(len(data) for data in request.blobs.values()))
        if len(request.messages) == 1:
            return asks(("big", "{}"))
        return ModelReply(tuple(TextPart(text=text) for text in large), "end", None)

    cluster = Cluster(experts(["big"]), model, {"big": local_tool(big)})
    async with cluster.worker("e1"):
        await cluster.start(text="i" * 100_000)
        state = await cluster.rest()
    assert state.status == "completed"
    assert seen == [100_000, 300_000]
    for stored in await cluster.outside.log.load(REF):
        assert len(stored.data) < 512 * 1024
        for digest in blobs_of(stored.data):
            await cluster.outside.blobs.get(REF.tenant, digest)
    said = [e for e in await cluster.events() if isinstance(e, GenerationCompleted)][-1]
    kept = [part.text for part in said.parts if isinstance(part, TextPart)]
    assert any(isinstance(text, BlobRef) for text in kept)


def blobs_of(data: bytes) -> list[str]:
    """The digests that an envelope's bytes name as content kept elsewhere."""
    return [part.split(b'"')[0].decode() for part in data.split(b'{"digest":"')[1:]]


async def test_reply_that_never_fits_fails_the_run_and_is_not_tried_again() -> None:
    """C2: over the limit is a typed, non-retryable failure."""

    async def endless(_: ModelRequest, __: Any) -> ModelReply:
        return asks(*[("none" + "x" * 60, "{}")] * 6_000)

    cluster = Cluster(experts(), endless)
    async with cluster.worker("e1"):
        await cluster.start()
        state = await cluster.rest()
    assert (state.status, state.failure_kind) == ("failed", "too_large")


async def test_no_call_is_claimed_twice_whoever_delivers_the_work() -> None:
    """Rule 6."""
    cluster = one_tool(asks(*[("echo", "{}")] * 12), "done")
    async with cluster.worker("e1", handoff=False), cluster.worker("e2", handoff=False):
        await cluster.start()
        await cluster.rest()
    claims = [e.call for e in await cluster.events() if isinstance(e, ToolCallClaimed)]
    assert len(claims) == len(set(claims)) == 12


async def test_every_envelope_of_a_run_names_the_command_that_led_to_it() -> None:
    cluster = one_tool(asks(("echo", "{}")), "done")
    async with cluster.worker("e1"):
        await cluster.start()
        await cluster.rest()
    causes = [decode(stored.data).cause.type for stored in await cluster.outside.log.load(REF)]
    assert causes == [
        "start_run.v1",
        "complete_generation.v1",
        "record_tool_result.v1",
        "complete_generation.v1",
    ]
    assert COMMAND.validate_python({"type": "fire_timer.v1", "timer": "t"}).type == "fire_timer.v1"


async def test_deltas_of_a_reply_are_heard_live_and_never_stored() -> None:
    """C22."""
    cluster = Cluster(experts(), script("a live answer"))
    async with cluster.worker("e1"), cluster.outside.live.subscribe(REF) as pieces:
        await cluster.start()
        heard = await anext(aiter(pieces))
        await cluster.rest()
    assert b'"type":"delta.v1"' in heard.data
    assert Delta("text", 0, 0, "x").offset == 0
