"""Forks through the real handlers: their past is another run's log, read and checked (rule 14)."""

from dataclasses import replace

import pytest

from commands.history import History, Loaded, catch_up
from commands.past import Past, read_past
from domain import commands as c
from domain.content import BlobRef, CallPart, TextPart
from domain.envelope import decode
from domain.errors import IntegrityViolated
from domain.events import ResultEdit, RunForked, SnapshotTaken, Source
from domain.folds.forks import merged
from domain.ids import RunRef
from domain.policy import PolicyRule
from domain.record import digest_of
from domain.state import RunState
from eventlog.port import Stored
from peritus.replay import replay
from tests.support.office import Office, definition, office
from tests.support.runs import call, goes_on, replies, result, says

pytestmark = pytest.mark.anyio

ROOT = RunRef("acme", "golden", "root")
FORK = RunRef("acme", "fork", "fork")
AGAIN = RunRef("acme", "again", "again")


def fork_of(
    ref: RunRef, version: int, text: str = "", *results: ResultEdit, command: str = "f1"
) -> c.ForkRun:
    source = Source(job=ref.job, run=ref.run, version=version, hash="")
    return c.ForkRun(id=command, source=source, parts=says(text) if text else (), results=results)


async def two_steps() -> tuple[Office, int]:
    """A run in its third step, and the version of its second checkpoint."""
    desk = office()
    await desk.start(ROOT)
    await desk.tell(ROOT, replies(call("look")), result("c1-0", "a fox"), replies(call("look")))
    state = await desk.tell(ROOT, result("c2-0", "a hare"))
    return desk, state.version - 1


async def cold(desk: Office, ref: RunRef) -> RunState:
    return (await catch_up(desk.backbone.log, Loaded(RunState(ref=ref)))).state


async def past(desk: Office, ref: RunRef, version: int, *results: ResultEdit) -> Past:
    source = Source(job=ref.job, run=ref.run, version=version, hash="")
    return await read_past(desk.backbone.log, ref.tenant, source, results)


async def replays(desk: Office, ref: RunRef) -> bool:
    """Whether every request of a fork follows from its past and its own log."""
    stored = await desk.backbone.log.load(ref)
    forked = first_of(stored)
    there = await read_past(desk.backbone.log, ref.tenant, forked.source, forked.results)

    async def get_blob(digest: str) -> bytes | None:
        return desk.server.blobs.get((ref.tenant, digest))

    report = await replay([item.data for item in stored], get_blob, past=there.state)
    assert report.checks
    return report.verified


def first_of(stored: list[Stored]) -> RunForked:

    event = decode(stored[0].data).events[0]
    assert isinstance(event, RunForked)
    return event


async def test_fork_read_cold_is_the_fork_that_was_decided() -> None:
    desk, version = await two_steps()
    warm = await desk.tell(FORK, fork_of(ROOT, version))
    warm = await desk.tell(FORK, replies(call("look")), result("c3-0", "nothing"))
    assert await cold(desk, FORK) == warm
    assert await replays(desk, FORK)


async def test_log_of_a_fork_holds_nothing_of_its_past() -> None:
    desk, version = await two_steps()
    await desk.tell(FORK, fork_of(ROOT, version))
    assert b"a hare" in b"".join(desk.lines(ROOT))
    assert b"a hare" not in b"".join(desk.lines(FORK))


async def test_fork_of_a_run_at_work_leaves_that_run_as_it_is() -> None:
    desk, version = await two_steps()
    before, open_before = desk.lines(ROOT), list(desk.bench.taken)
    await desk.tell(FORK, fork_of(ROOT, version))
    assert desk.lines(ROOT) == before
    assert {ref for ref, _ in desk.bench.taken[len(open_before) :]} == {FORK}
    await desk.tell(ROOT, replies("done"))
    assert await cold(desk, FORK) == await desk.state(FORK)


async def test_same_fork_twice_is_one_run() -> None:
    desk, version = await two_steps()
    await desk.tell(FORK, fork_of(ROOT, version))
    lines = desk.lines(FORK)
    await desk.tell(FORK, fork_of(ROOT, version))
    assert desk.lines(FORK) == lines
    other = await desk.ask(FORK, fork_of(ROOT, version, command="f2"))
    assert (other.status, other.code) == ("rejected", "run_exists")


async def test_fork_of_a_fork_reads_all_that_came_before() -> None:
    desk, version = await two_steps()
    first = await desk.tell(FORK, fork_of(ROOT, version, "", edit("c1-0", "a bear")))
    first = await desk.tell(FORK, replies(call("look")), result("c3-0", "a wolf"))
    state = await desk.tell(AGAIN, fork_of(FORK, first.version, "more", edit("c2-0", "an owl")))
    assert state.forks == 2
    assert [text for text in said(state) if text.startswith("a")] == ["a bear", "an owl", "a wolf"]
    assert await cold(desk, AGAIN) == state
    assert await replays(desk, AGAIN)


async def test_source_that_is_gone_or_changed_is_said_to_be() -> None:
    desk, version = await two_steps()
    await desk.tell(FORK, fork_of(ROOT, version))
    forked = first_of(await desk.backbone.log.load(FORK))
    other = forked.source.model_copy(update={"hash": "0" * 64})
    with pytest.raises(IntegrityViolated, match="not what it was when it was forked"):
        await read_past(desk.backbone.log, ROOT.tenant, other)
    with pytest.raises(IntegrityViolated, match="is gone"):
        await past(desk, RunRef("acme", "no", "no"), 3)
    with pytest.raises(IntegrityViolated, match="has no version 999"):
        await past(desk, ROOT, 999)


async def test_fork_of_what_is_not_there_is_refused_and_leaves_nothing() -> None:
    desk, version = await two_steps()
    gone = await desk.ask(FORK, fork_of(RunRef("acme", "no", "no"), 3))
    assert gone.code == "no_such_version"
    others = await desk.ask(FORK, fork_of(RunRef("acme", "golden.root", ">"), 3))
    assert others.code == "bad_id"
    late = await desk.ask(FORK, fork_of(ROOT, version + 99))
    assert late.code == "no_such_version"
    wrong = await desk.ask(FORK, fork_of(ROOT, version, "", edit("c9-0", "x")))
    assert wrong.code == "no_such_call"
    assert FORK not in await desk.backbone.open_runs.list()
    assert desk.lines(FORK) == []


async def test_large_edited_result_is_stored_by_name_and_folds_the_same() -> None:
    desk, version = await two_steps()
    state = await desk.tell(FORK, fork_of(ROOT, version, "", edit("c1-0", "x" * 40_000)))
    assert len(b"".join(desk.lines(FORK))) < 20_000
    assert await cold(desk, FORK) == state
    assert state.conversation.blobs


async def test_fork_with_a_long_past_gets_a_snapshot_of_its_own() -> None:
    desk = office()
    state = await desk.start(ROOT)
    for step in range(1, 12):
        state = await desk.tell(ROOT, replies("y" * 25_000, call("look")))
        state = await desk.tell(ROOT, result(f"c{step}-0", "z"))
    await desk.tell(FORK, fork_of(ROOT, state.version - 1))
    assert await desk.backbone.snapshots.get(FORK) is not None
    warm = await desk.state(FORK)
    loaded = await History(desk.backbone.log, desk.backbone.snapshots).read(FORK)
    assert loaded.state.conversation.digest == warm.conversation.digest
    assert not loaded.state.conversation.whole
    whole = await History(desk.backbone.log, desk.backbone.snapshots).read_whole(FORK)
    assert whole.state == warm


async def test_another_definition_is_pinned_for_the_fork_alone() -> None:
    desk, version = await two_steps()
    other = definition()
    experts = {
        key: one.model_copy(update={"model": one.model.model_copy(update={"model": "large"})})
        for key, one in other.experts.items()
    }
    other = other.model_copy(update={"experts": experts})
    digest = await desk.backbone.blobs.put(ROOT.tenant, other.to_bytes())
    command = fork_of(ROOT, version).model_copy(update={"definition": digest})
    state = await desk.tell(FORK, command)
    assert state.model is not None
    assert state.model.model == "large"
    assert first_of(await desk.backbone.log.load(FORK)).edited == ("model", "definition")
    assert await replays(desk, FORK)
    unknown = fork_of(ROOT, version).model_copy(update={"definition": "0" * 64})
    assert (await desk.ask(AGAIN, unknown)).code == "no_definition"


async def test_operators_rules_of_now_hold_in_a_fork() -> None:

    desk, version = await two_steps()
    rule = PolicyRule(verdict="deny", tool="pay")
    desk.desk = replace(desk.desk, operator_rules=(rule,))
    state = await desk.tell(FORK, fork_of(ROOT, version))
    assert [layer.name for layer in state.layers] == ["operator"]
    assert state.layers[0].rules == (rule,)


def placing() -> c.PlaceSandbox:
    return c.PlaceSandbox(
        place="disk-1",
        epoch="e1",
        backend="bubblewrap",
        report="{}",
        workspace="own",
        snapshots=True,
    )


def stored_files(state: RunState, data: bytes, *, exact: bool = True) -> c.RecordSnapshot:
    due = state.snapshot_due
    assert due is not None
    manifest = BlobRef(digest=digest_of(data), size=len(data))
    taken = SnapshotTaken(
        run=state.ref.run,
        step=due.step,
        version=due.version,
        manifest=manifest,
        files=1,
        exact=exact,
    )
    return c.RecordSnapshot(taken=taken)


WRITES = CallPart(provider_id="w", tool="writeTextFile", arguments='{"path": "a"}')
JOB = RunRef("acme", "job", "job")


async def written() -> tuple[Office, list[int]]:
    """Two steps that write, with a snapshot each; the versions of their checkpoints."""
    desk = office()
    desk.bench.room = False
    await desk.start(JOB)
    await desk.tell(JOB, replies(WRITES), placing())
    points: list[int] = []
    for step in (1, 2):
        state = await desk.tell(JOB, result(f"c{step}-0", "written"))
        assert state.snapshot_due is not None
        points.append(state.snapshot_due.version)
        state = await desk.tell(JOB, replies(WRITES), stored_files(state, b"%d" % step))
    return desk, points


@pytest.mark.parametrize("at", [0, 1])
async def test_files_of_a_fork_are_those_of_its_checkpoint_also_when_stored_later(at: int) -> None:
    desk, points = await written()
    state = await desk.tell(FORK, fork_of(JOB, points[at]))
    forked = first_of(await desk.backbone.log.load(FORK))
    assert forked.files is not None
    assert forked.files.step == at + 1
    assert not forked.files_differ
    placed = (await desk.tell(FORK, replies(WRITES), placing())).sandbox
    assert placed is not None
    assert placed.restored == forked.files.manifest
    assert state.snapshot == forked.files


async def test_files_that_changed_since_the_snapshot_are_told_of() -> None:
    desk, points = await written()
    state = await desk.tell(JOB, result("c3-0", "written"))
    await desk.tell(FORK, fork_of(JOB, state.version - 1))
    forked = first_of(await desk.backbone.log.load(FORK))
    assert forked.files is not None
    assert forked.files.version == points[1]
    assert forked.files_differ


async def test_fork_that_has_written_nothing_yet_hands_on_the_files_it_began_with() -> None:
    desk, points = await written()
    state = await desk.tell(FORK, fork_of(JOB, points[0]))
    await desk.tell(AGAIN, fork_of(FORK, state.version, "and now?"))
    forked = first_of(await desk.backbone.log.load(AGAIN))
    assert forked.files == first_of(await desk.backbone.log.load(FORK)).files


async def test_fork_goes_on_after_its_end_like_any_root_run() -> None:
    desk, version = await two_steps()
    ended = await desk.tell(FORK, fork_of(ROOT, version), replies("done"))
    assert ended.at_rest
    state = await desk.tell(FORK, goes_on("more"))
    assert state.status == "running"
    assert await cold(desk, FORK) == state


def test_edits_of_a_call_are_merged_with_the_last_one_first() -> None:
    both = merged([edit("a", "1"), edit("b", "2")], [edit("a", "3")])
    assert [(one.call, one.content) for one in both] == [("a", says("3")), ("b", says("2"))]


def edit(name: str, text: str) -> ResultEdit:
    return ResultEdit(call=name, content=says(text))


def said(state: RunState) -> list[str]:
    found: list[str] = []
    for message in state.conversation.messages:
        for part in message.parts:
            if part.kind == "result":
                found.extend(str(one.text) for one in part.content if isinstance(one, TextPart))
    return found
