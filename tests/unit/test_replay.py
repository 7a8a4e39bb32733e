"""Replay from stored bytes: what is verified, what is found. Not the command."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from domain.asks import SampleMessage, SampleRequest
from domain.commands import StartRun
from domain.content import BlobRef, CallPart, TextPart
from domain.definition import BaseSkill, Definition, Expert
from domain.envelope import decode, hash_of
from domain.errors import IntegrityViolated
from domain.events import ContextPinned, GenerationRequested, SamplingRequested
from domain.ids import RunRef
from domain.limits import ModelChoice
from domain.state import RunState
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from peritus.jobs import at_desk, rest_of
from peritus.replay import GetBlob, Replay, ReplayReport, replay
from peritus.runtime import working
from peritus.worker import WorkerParts
from services.loop.models.port import ModelReply
from services.loop.models.scripted import ScriptedModel
from tests.support.asking import asks
from tests.support.runs import call, given, replies, start, when

pytestmark = pytest.mark.anyio

REF = RunRef("acme", "job", "run")

LARGE = "A text that is kept outside the log. " * 2_000


def _todo(index: int, text: str) -> ModelReply:
    call = CallPart(provider_id=f"p{index}", tool="todo", arguments="{}")
    return ModelReply((TextPart(text=text), call), "tool_calls", None)


REPLIES = [_todo(1, "First."), _todo(2, LARGE), ModelReply((TextPart(text="Done."),), "end", None)]


async def recorded() -> tuple[list[bytes], Backbone]:
    """The envelopes of a run of three steps, one of them with a large reply."""
    ticks, names = itertools.count(1_000), itertools.count()
    backbone = MemoryServer(now_ms=lambda: 1_000).backbone()
    expert = Expert(
        key="clerk",
        instruction="Work.",
        skills={"base": BaseSkill()},
        model=ModelChoice(provider="scripted", model="inline"),
    )
    definition = Definition(experts={"clerk": expert})
    digest = await backbone.blobs.put(REF.tenant, definition.to_bytes())
    parts = WorkerParts(
        backbone=backbone,
        epoch="e",
        now_ms=lambda: next(ticks),
        new_id=lambda: f"id{next(names)}",
        certainly_dead=lambda _: False,
        generate=ScriptedModel(REPLIES).generate,
    )
    start = StartRun(id="s", expert="clerk", definition=digest, parts=(TextPart(text="Go."),))
    async with asyncio.timeout(10), working(parts) as desk:
        await at_desk(desk)(REF, start)
        await rest_of(backbone.log, REF)
    return [item.data for item in await backbone.log.load(REF)], backbone


def blobs_of(backbone: Backbone, without: str = "", changed: str = "") -> GetBlob:
    async def get_blob(digest: str) -> bytes | None:
        if digest == without:
            return None
        data = await backbone.blobs.get(REF.tenant, digest)
        return data + b"!" if digest == changed else data

    return get_blob


async def checked(stored: Sequence[bytes], backbone: Backbone) -> ReplayReport:
    return await replay(stored, blobs_of(backbone))


def pinned(stored: Sequence[bytes]) -> str:
    events = [event for data in stored for event in decode(data).events]
    return next(event.context for event in events if isinstance(event, ContextPinned))


async def test_every_request_of_an_untouched_run_is_verified() -> None:
    stored, backbone = await recorded()

    report = await checked(stored, backbone)

    assert [(check.step, check.verdict) for check in report.checks] == [
        (1, "verified"),
        (2, "verified"),
        (3, "verified"),
    ]
    assert report.verified
    assert report.envelopes == len(stored)


async def test_one_changed_character_of_a_reply_fails_at_the_step_that_reads_it() -> None:
    stored, backbone = await recorded()
    index = next(i for i, data in enumerate(stored) if b'"First."' in data)
    stored[index] = stored[index].replace(b'"First."', b'"Worst."')

    report = await checked(stored, backbone)

    assert not report.verified
    assert [check.verdict for check in report.checks[:-1]] == ["verified"]
    assert report.checks[-1].verdict == "differs"
    assert report.checks[-1].version == decode(stored[index]).version


async def test_any_changed_byte_of_an_envelope_before_the_last_is_found() -> None:
    stored, backbone = await recorded()
    for index in range(len(stored) - 1):
        for place in range(0, len(stored[index]), 7):
            data = bytearray(stored[index])
            data[place] ^= 1
            damaged = [*stored[:index], bytes(data), *stored[index + 1 :]]
            try:
                report = await checked(damaged, backbone)
            except IntegrityViolated:
                assert index == 0
                continue
            assert not report.verified, (index, place)


async def test_a_changed_last_envelope_is_found_by_the_digest_a_view_remembers() -> None:
    stored, backbone = await recorded()
    head = hash_of(stored[-1])
    stored[-1] = stored[-1].replace(b"Done.", b"Dane.")

    report = await replay(stored, blobs_of(backbone), head=head)

    assert report.checks[-1].verdict == "differs"


async def test_an_envelope_that_is_gone_is_found() -> None:
    stored, backbone = await recorded()

    report = await checked([stored[0], *stored[2:]], backbone)

    assert [check.verdict for check in report.checks] == ["verified", "differs"]
    before, after = decode(stored[0]).events, decode(stored[2]).version
    assert report.checks[-1].detail == f"version {after} follows {len(before)}"


async def test_a_request_of_another_renderer_is_not_comparable() -> None:
    stored, backbone = await recorded()
    stored = [data.replace(b'"peritus-1"', b'"peritus-0"') for data in stored[:1]]

    report = await checked(stored, backbone)

    assert [check.verdict for check in report.checks] == ["not comparable"]
    assert "peritus-0" in report.checks[0].detail


async def test_a_context_that_is_gone_makes_every_request_not_comparable() -> None:
    stored, backbone = await recorded()

    report = await replay(stored, blobs_of(backbone, without=pinned(stored)))

    assert {check.verdict for check in report.checks} == {"not comparable"}


async def test_a_context_that_was_changed_differs() -> None:
    stored, backbone = await recorded()

    report = await replay(stored, blobs_of(backbone, changed=pinned(stored)))

    assert {check.verdict for check in report.checks} == {"differs"}


async def test_content_outside_the_log_is_checked_where_a_message_names_it() -> None:
    stored, backbone = await recorded()
    found = re.search(rb'"digest":"([0-9a-f]{64})"', b"".join(stored))
    assert found is not None
    digest = found[1].decode()

    report = await replay(stored, blobs_of(backbone, changed=digest))

    assert [check.verdict for check in report.checks] == ["verified", "verified", "differs"]
    assert "content" in report.checks[-1].detail


async def test_a_recorded_digest_that_is_not_of_the_request_differs() -> None:
    stored, backbone = await recorded()
    first = next(e for e in decode(stored[0]).events if isinstance(e, GenerationRequested))
    stored = [stored[0].replace(first.request.encode(), b"0" * 64)]

    report = await checked(stored, backbone)

    assert report.checks[0].verdict == "differs"
    assert "rendered anew" in report.checks[0].detail


async def test_nothing_stored_is_no_run() -> None:
    with pytest.raises(IntegrityViolated):
        await replay([], blobs_of(MemoryServer(now_ms=lambda: 0).backbone()))


def asking() -> list[bytes]:
    """The golden log of a run whose tools ask the model."""
    folder = Path(__file__).parents[1] / "histories" / "v0_2_0"
    return (folder / "asking.jsonl").read_bytes().splitlines()


async def nothing(digest: str) -> bytes | None:
    del digest
    return None


async def test_calls_of_the_model_for_tools_are_verified_from_what_was_asked() -> None:
    report = await replay(asking(), nothing)

    found = [(check.ask, check.verdict) for check in report.checks if check.ask]
    assert found == [(name, "verified") for name in ("q6", "q7", "q8", "q11")]


async def test_call_of_the_model_that_was_recorded_as_another_differs() -> None:
    lines = asking()
    at, line = next((at, one) for at, one in enumerate(lines) if b'"sampling.requested.v1"' in one)
    event = next(x for x in decode(line).events if isinstance(x, SamplingRequested))
    changed = line.replace(event.request.encode(), b"0" * 64)

    report = await replay([*lines[:at], changed], nothing)

    (check,) = [check for check in report.checks if check.ask]
    assert check.verdict == "differs"
    assert "rendered anew" in check.detail


async def test_content_of_a_conversation_for_a_tool_that_is_gone_is_not_comparable() -> None:
    text = BlobRef(digest="b" * 64, size=40_000)
    state = when(given(start(), replies(call("buy"))), asks(large(text))).after
    event = SamplingRequested(ask="q1", request=digest_in(state), reserved=1)
    run = Replay(nothing, state)
    check = await run.check_sampling(event)
    assert (check.verdict, check.detail) == ("not comparable", f"content {'b' * 12} is gone")


def large(text: BlobRef) -> SampleRequest:
    return SampleRequest(messages=(SampleMessage(speaker="user", text=text),), output_tokens_max=5)


def digest_in(state: RunState) -> str:
    asked = state.asks["q1"].model_call
    assert asked is not None
    return asked.request
