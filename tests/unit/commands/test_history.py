"""A run loaded from its snapshot is the run loaded from its log; a bad one is not used (C1)."""

import itertools

import pytest

from commands.history import History
from commands.runs import RunStore
from domain import commands as c
from domain.commands import PinnedContext, Situation
from domain.content import CallPart, TextPart
from domain.errors import IntegrityViolated
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Usage
from domain.snapshot import FOLD, restore, take
from eventlog.memory import MemoryServer
from eventlog.port import Backbone, Stored

pytestmark = pytest.mark.anyio

REF = RunRef("t", "j", "r")
MODEL = ModelChoice(provider="p", model="m")
CONTEXT = PinnedContext("peritus-1", "d" * 64, 100, MODEL, (), Limits(steps_max=1_000))
HERE = Situation(now_ms=1, holder="e1", epoch="e1", context=CONTEXT)


def store(backbone: Backbone, bytes_min: int = 4_000) -> RunStore:
    ids = itertools.count()
    return RunStore(
        backbone,
        epoch="e1",
        now_ms=lambda: 1,
        new_id=lambda: f"id{next(ids)}",
        snapshot_bytes_min=bytes_min,
    )


async def play(runs: RunStore, steps: int) -> None:
    """A run of so many steps, each with a call of a tool that does not exist."""
    start = c.StartRun(id="s", expert="x", definition="d", parts=(TextPart(text="go"),))
    await runs.execute(REF, start, HERE)
    for step in range(1, steps + 1):
        reply = c.CompleteGeneration(
            step=step,
            attempt=1,
            parts=(TextPart(text="a" * 200), CallPart(provider_id="p", tool="no", arguments="{}")),
            stop_reason="tool_calls",
            usage=Usage(input=1, output=1),
        )
        await runs.execute(REF, reply, HERE)


async def test_a_cold_load_from_a_snapshot_decides_like_one_from_the_log() -> None:
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    warm = store(backbone)
    await play(warm, 40)
    assert await backbone.snapshots.get(REF) is not None
    cold = await store(backbone).fresh(REF)
    known = await warm.known(REF)
    assert not cold.state.conversation.whole
    assert (cold.seq, cold.hash) == (known.seq, known.hash)
    assert cold.state.conversation.digest == known.state.conversation.digest
    assert cold.state.past_calls == known.state.past_calls
    assert cold.state.generation == known.state.generation


async def test_generating_after_a_snapshot_gets_every_message_back() -> None:
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    warm = store(backbone)
    await play(warm, 40)
    cold = store(backbone)
    await cold.fresh(REF)
    whole = (await cold.whole(REF)).state.conversation
    assert whole.whole
    assert list(whole.messages) == list((await warm.known(REF)).state.conversation.messages)


async def test_a_run_goes_on_from_a_snapshot_as_if_it_had_been_folded_whole() -> None:
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    await play(store(backbone), 40)
    cold = store(backbone)
    reply = c.CompleteGeneration(
        step=41, attempt=1, parts=(TextPart(text="done"),), stop_reason="end", usage=None
    )
    decision = await cold.execute(REF, reply, HERE)
    assert decision.after.result == "done"
    whole = await History(backbone.log, backbone.snapshots).read_whole(REF)
    assert whole.state.conversation.digest == decision.after.conversation.digest


async def test_a_snapshot_that_does_not_stand_in_the_log_is_not_used() -> None:
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    warm = store(backbone)
    await play(warm, 10)
    known = await warm.known(REF)
    await backbone.snapshots.put(REF, take(known.state, known.seq, "0" * 64))
    cold = await store(backbone).fresh(REF)
    assert cold.state.conversation.whole
    assert cold.hash == known.hash


async def test_a_snapshot_of_another_fold_or_of_no_fold_is_not_used() -> None:
    backbone = MemoryServer(now_ms=lambda: 1).backbone()
    warm = store(backbone)
    await play(warm, 5)
    data = take((await warm.known(REF)).state, 1, "0" * 64)
    assert restore(REF, data.replace(f'"fold":"{FOLD}"'.encode(), b'"fold":"0"')) is None
    assert restore(REF, b"not a snapshot") is None
    assert restore(RunRef("t", "j", "other"), data) is None


async def test_snapshots_together_stay_smaller_than_the_log() -> None:
    server = MemoryServer(now_ms=lambda: 1)
    backbone = server.backbone()
    sizes: list[int] = []
    put = backbone.snapshots.put

    async def counted(ref: RunRef, data: bytes) -> None:
        sizes.append(len(data))
        await put(ref, data)

    object.__setattr__(backbone.snapshots, "put", counted)
    await play(store(backbone), 250)
    assert len(sizes) >= 2
    assert sum(sizes) < sum(len(stored.data) for stored in server.log.all)


async def test_a_run_whose_last_envelope_the_log_cannot_show_is_damaged_not_busy() -> None:
    """C21: a flipped byte makes a stored message vanish; appends still see its sequence."""
    server = MemoryServer(now_ms=lambda: 1)
    backbone = server.backbone()
    await play(store(backbone), 2)
    hidden = server.log.all[-1]
    load = server.log.load

    def without_the_last(ref: RunRef, after_seq: int, *, stale: bool) -> list[Stored]:
        return [item for item in load(ref, after_seq, stale=stale) if item.seq != hidden.seq]

    server.log.load = without_the_last  # type: ignore[method-assign]
    reply = c.CompleteGeneration(
        step=2, attempt=1, parts=(TextPart(text="done"),), stop_reason="end", usage=None
    )
    with pytest.raises(IntegrityViolated):
        await store(backbone).execute(REF, reply, HERE)
