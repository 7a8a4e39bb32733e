"""Where a job's workspace is: placement, loss, change of place, snapshots (C16). Not the keeper."""

from dataclasses import replace

import pytest

from domain import commands as c
from domain.content import BlobRef, text_of
from domain.decisions.sandbox import PLACE_RETURN_MS
from domain.effects import CallTool, TakeSnapshot
from domain.errors import Rejected
from domain.events import (
    EgressCounted,
    InputReceived,
    SandboxPlaced,
    SnapshotTaken,
    ToolCallEnded,
)
from domain.sandbox import EgressRow
from domain.state import RunState
from tests.support.runs import (
    ELSEWHERE,
    NOW_MS,
    call,
    cancel,
    claim,
    given,
    outcomes,
    read_by_model,
    replies,
    result,
    situation,
    start,
    when,
)

QUIET = situation(holder=None)
MANIFEST = BlobRef(digest="e" * 64, size=10)


def place(
    epoch: str = "e1",
    at: str = "p1",
    *,
    number: int | None = None,
    take_over: bool = True,
) -> c.PlaceSandbox:
    return c.PlaceSandbox(
        place=at,
        epoch=epoch,
        backend="bubblewrap",
        report="{}",
        workspace="own",
        snapshots=True,
        take_over=take_over,
        number=number,
    )


def lost(epoch: str = "e1") -> c.AbandonHolder:
    return c.AbandonHolder(holder=epoch)


def later(ms: int) -> c.Situation:
    return replace(QUIET, now_ms=NOW_MS + ms)


def placed(*tools: str, child: bool = False, number: int | None = None) -> RunState:
    """A run whose workspace e1 holds at p1, with some calls open."""
    calls = [call(tool) for tool in tools or ("exec",)]
    number = 3 if child and number is None else number
    return given(start(child=child), replies(*calls), place(number=number), where=ELSEWHERE)


def taken(run: str = "run1", version: int = 9, manifest: BlobRef | None = MANIFEST) -> c.Command:
    event = SnapshotTaken(run=run, step=1, version=version, manifest=manifest)
    return c.RecordSnapshot(taken=event)


def test_first_worker_that_asks_holds_the_workspace_and_the_same_again_changes_nothing() -> None:
    state = given(start(), replies(call("exec")), where=ELSEWHERE)
    then = when(state, place(), QUIET)
    assert then.types == ["sandbox.placed.v1"]
    assert then.after.sandbox is not None
    assert (then.after.sandbox.epoch, then.after.sandbox.number) == ("e1", 1)
    assert when(then.after, place(), QUIET).events == ()


def test_a_run_nobody_started_cannot_be_placed() -> None:
    with pytest.raises(Rejected, match="no run"):
        when(RunState(ref=given(start()).ref), place(), QUIET)


@pytest.mark.parametrize(
    ("epoch", "at", "gone", "told_ms", "now_ms", "moves"),
    [
        ("e2", "p2", False, None, PLACE_RETURN_MS, False),  # it lives
        ("e2", "p2", True, None, PLACE_RETURN_MS, False),  # nobody wrote down that it is gone
        ("e2", "p2", True, 0, PLACE_RETURN_MS - 1, False),  # its place may come back
        ("e2", "p2", True, 0, PLACE_RETURN_MS, True),
        ("e2", "p1", False, None, 0, False),  # another life of the place, and this one lives
        ("e2", "p1", True, None, 0, True),
        ("e2", "p1", False, 0, 0, True),
        ("e1", "p1", False, 0, 0, True),  # it was taken for lost, and is not
    ],
)
def test_who_may_take_a_workspace_over_and_when(
    *,
    epoch: str,
    at: str,
    gone: bool,
    told_ms: int | None,
    now_ms: int,
    moves: bool,
) -> None:
    state = placed()
    if told_ms is not None:
        state = when(state, lost(), later(told_ms)).after
    where = replace(later(now_ms), gone=frozenset({"e1"}) if gone else frozenset())
    then = when(state, place(epoch, at), where)
    assert [kind for kind in then.types if kind == "sandbox.placed.v1"] == (
        ["sandbox.placed.v1"] if moves else []
    )
    assert then.after.sandbox is not None
    assert then.after.sandbox.epoch == (epoch if moves else "e1")
    assert then.after.sandbox.number == (2 if moves else 1)


def test_snapshots_ask_only_for_what_their_place_held() -> None:
    state = when(placed(), lost(), QUIET).after
    assert when(state, place("e2", "p2", take_over=False), later(99_000)).events == ()
    then = when(state, place("e2", "p1", take_over=False), QUIET)
    assert then.types == ["sandbox.placed.v1"]


@pytest.mark.parametrize(
    ("epoch", "number", "was_lost", "obeyed"),
    [
        ("e2", 4, False, True),
        ("e2", 3, False, False),
        ("e2", 2, False, False),
        ("e2", 3, True, False),  # one number is one worker
        ("e2", 2, True, False),
        ("e1", 3, True, True),  # taken for lost here; its root never thought so
        ("e1", 3, False, False),
        ("e1", 4, False, True),
    ],
)
def test_another_run_of_the_job_obeys_the_larger_number(
    *,
    epoch: str,
    number: int,
    was_lost: bool,
    obeyed: bool,
) -> None:
    state = placed(child=True)
    if was_lost:
        state = when(state, lost(), QUIET).after
    then = when(state, place(epoch, "p1" if epoch == "e1" else "p2", number=number), QUIET)
    assert bool(then.events) == obeyed
    assert then.after.sandbox is not None
    assert then.after.sandbox.number == (number if obeyed else 3)


def test_a_delegate_whose_root_has_another_name_decides_for_itself() -> None:
    """Else its workspace would be lost with the first worker, and the run stuck (C7)."""
    state = when(placed(child=True, number=1), lost(), QUIET).after
    then = when(state, place("e2", "p2"), later(PLACE_RETURN_MS))
    assert then.types[0] == "sandbox.placed.v1"


def test_loss_is_recorded_once_and_of_the_holder_only() -> None:
    state = placed()
    assert when(state, lost("e7"), QUIET).events == ()
    then = when(state, lost(), QUIET)
    assert then.types == ["sandbox.lost.v1"]
    assert when(then.after, lost(), QUIET).events == ()


def test_workspace_can_be_taken_back_from_a_worker_that_lives() -> None:
    """A run that was not told of the root's new placement: nothing else of the worker is given up.

    Rule 10: a slow but living worker is left alone.
    """
    state = when(placed(), claim("c1-0"), QUIET).after
    then = when(state, c.AbandonHolder(holder="e1", names=("sandbox",)), QUIET)
    assert then.types == ["sandbox.lost.v1"]
    assert then.after.calls["c1-0"].holder == "e1"


def test_a_run_at_rest_loses_nothing_and_is_placed_only_for_its_last_snapshot() -> None:
    """Rule 8: nothing follows the end of a child."""
    state = when(placed("read", child=True), result("c1-0"), QUIET).after
    state = when(state, replies("done"), QUIET).after
    assert state.at_rest
    assert when(state, lost(), QUIET).events == ()
    with pytest.raises(Rejected, match="at rest"):
        when(state, place("e2", "p1", number=4), QUIET)
    then = when(state, place("e2", "p1", number=4, take_over=False), QUIET)
    assert then.types == ["sandbox.placed.v1"]


@pytest.mark.parametrize(
    ("tool", "outcome"), [("exec", "outcome_unknown"), ("write", "open"), ("read", "open")]
)
def test_what_a_lost_place_may_have_begun_is_unknown_in_the_same_envelope(
    tool: str, outcome: str
) -> None:
    """Rule 6: never again what must not run twice; the rest runs at the next place."""
    state = when(placed(tool, "buy"), lost(), QUIET).after
    then = when(state, place("e2", "p2"), later(PLACE_RETURN_MS))
    assert outcomes(then.after)["c1-0"] == outcome
    if outcome != "open":
        assert "not known whether" in read_by_model(then.events, "c1-0")
    note = next(event for event in then.events if isinstance(event, InputReceived))
    assert note.speaker == "runtime"
    assert "workspace is empty now" in text_of(note.parts)


def test_call_that_was_asked_for_after_the_loss_runs_at_the_next_place() -> None:
    state = when(placed("write"), lost(), QUIET).after
    state = when(state, result("c1-0"), QUIET).after
    state = when(state, replies(call("exec")), QUIET).after
    then = when(state, place("e2", "p2"), later(PLACE_RETURN_MS))
    assert outcomes(then.after) == {"c2-0": "open"}


def test_call_that_was_claimed_by_a_lost_worker_is_unknown_at_the_next_place() -> None:
    """A worker that lives, and is taken for lost, claims in the log what it was not sent."""
    state = when(placed(), claim("c1-0"), QUIET).after
    state = when(state, c.AbandonHolder(holder="e1", names=("sandbox",)), QUIET).after
    then = when(state, place("e2", "p2"), later(PLACE_RETURN_MS))
    assert "not known whether" in read_by_model(then.events, "c1-0")


def test_same_place_is_told_of_all_its_lives_that_may_have_begun_what_is_open() -> None:
    """C16: their journals say what became of it."""
    state = placed()
    for index, epoch in enumerate(("e2", "e3")):
        state = when(state, lost(f"e{index + 1}"), QUIET).after
        then = when(state, place(epoch), QUIET)
        assert outcomes(then.after)["c1-0"] == "open"
        state = then.after
    assert state.sandbox is not None
    assert state.sandbox.earlier == ("e2", "e1")
    assert state.sandbox.number == 3


def test_same_place_need_not_look_at_lives_that_left_nothing_open() -> None:
    state = when(when(placed("write"), result("c1-0"), QUIET).after, lost(), QUIET).after
    after = when(state, place("e2"), QUIET).after
    assert after.sandbox is not None
    assert after.sandbox.earlier == ()


@pytest.mark.parametrize("tool", ["exec", "write", "read"])
@pytest.mark.parametrize(
    ("holder", "heard"), [("e2", True), ("e1", True), ("e7", False)], ids=["now", "before", "other"]
)
def test_only_a_life_of_the_place_reports_what_was_done_there(
    *,
    tool: str,
    holder: str,
    heard: bool,
) -> None:
    state = when(when(placed(tool), lost(), QUIET).after, place("e2"), QUIET).after
    then = when(state, result("c1-0", holder=holder), QUIET)
    assert (outcomes(then.after).get("c1-0", "over") != "open") == heard
    assert ("tool_result.late.v1" in then.types) != heard


def test_result_of_another_place_is_late_though_its_worker_held_the_job_once() -> None:
    """What it wrote is not there any more: the call is done again where the files are."""
    state = when(when(placed("write"), lost(), QUIET).after, place("e2", "p2"), later(20_000)).after
    assert when(state, result("c1-0"), later(20_000)).types == ["tool_result.late.v1"]
    assert outcomes(state) == {"c1-0": "open"}


@pytest.mark.parametrize(
    ("holder", "granted"), [("e1", True), ("e2", False)], ids=["placed", "not placed"]
)
def test_only_the_worker_that_holds_the_workspace_may_claim(
    *,
    holder: str,
    granted: bool,
) -> None:
    then = when(placed(), claim("c1-0", holder), QUIET)
    assert bool(then.events) == granted


def test_worker_that_holds_the_workspace_claims_what_another_took_too_early() -> None:
    state = given(start(), replies(call("exec")), claim("c1-0", "e7"), where=ELSEWHERE)
    state = when(state, place("e1"), QUIET).after
    then = when(state, claim("c1-0", "e1"), QUIET)
    assert then.after.calls["c1-0"].holder == "e1"
    assert when(then.after, claim("c1-0", "e7"), QUIET).events == ()


@pytest.mark.parametrize("why", ["lost", "cancelling", "ended", "attempt"])
def test_nothing_is_claimed_that_must_not_start(why: str) -> None:
    state, asked = placed(), claim("c1-0")
    if why == "lost":
        state = when(state, lost(), QUIET).after
    elif why == "cancelling":
        state = when(state, cancel(), QUIET).after
    elif why == "ended":
        state = when(placed("exec", "buy"), result("c1-0"), QUIET).after
    else:
        asked = claim("c1-0", attempt=2)
    assert when(state, asked, QUIET).events == ()


def test_cancel_gives_a_call_that_may_have_begun_its_grace_and_ends_any_other() -> None:
    """Rule 9."""
    exposed = when(placed("exec"), cancel(), QUIET)
    assert outcomes(exposed.after) == {"c1-0": "open"}
    unplaced = given(start(), replies(call("exec")), where=ELSEWHERE)
    assert outcomes(when(unplaced, cancel(), QUIET).after) == {"c1-0": "cancelled"}


def test_call_of_an_unplaced_run_is_not_claimed_anew_by_whoever_gives_it_up() -> None:
    """Its job may be kept elsewhere: five such claims would make it unknown, and it never ran."""
    state = given(start(), replies(call("exec")))
    assert state.calls["c1-0"].holder == "e1"
    then = when(state, c.AbandonHolder(holder="e1", names=("c1-0.1",)))
    assert then.types == ["tool_call.retried.v1"]


def test_checkpoint_after_a_write_is_to_be_stored_and_once_it_is_nothing_is() -> None:
    state = when(placed("write"), result("c1-0"), QUIET).after
    due = state.snapshot_due
    assert due is not None
    assert [e for e in when(state, lost("e9"), QUIET).effects if isinstance(e, TakeSnapshot)]
    then = when(state, taken(version=due.version), QUIET)
    assert then.after.snapshot_due is None
    assert then.after.snapshot is not None
    assert when(then.after, taken(version=due.version), QUIET).events == ()


def test_reading_alone_needs_no_snapshot() -> None:
    state = when(placed("read"), result("c1-0"), QUIET).after
    assert state.snapshot_due is None
    assert when(state, taken(), QUIET).events == ()


def test_older_snapshot_of_a_delegate_does_not_replace_its_newer_one_in_the_root() -> None:
    state = when(placed(), taken("child", 20), QUIET).after
    assert when(state, taken("child", 12), QUIET).events == ()
    assert state.snapshot is not None
    assert state.snapshot.version == 20


def test_another_place_restores_the_newest_snapshot_and_says_so() -> None:
    state = when(when(placed(), taken("child", 20), QUIET).after, lost(), QUIET).after
    then = when(state, place("e2", "p2"), later(PLACE_RETURN_MS))
    placing = then.events[0]
    assert isinstance(placing, SandboxPlaced)
    assert placing.restored == MANIFEST
    assert "after step 1 of run child" in placing.lost


def test_next_life_of_a_place_still_knows_what_its_files_come_from() -> None:
    """The life that took over may have died before it brought them back."""
    state = when(when(placed(), taken("child", 20), QUIET).after, lost(), QUIET).after
    state = when(state, place("e2", "p2"), later(PLACE_RETURN_MS)).after
    after = when(when(state, lost("e2"), QUIET).after, place("e3", "p2"), QUIET).after
    assert after.sandbox is not None
    assert after.sandbox.restored == MANIFEST


def test_checkpoint_whose_files_were_lost_is_not_stored_elsewhere_in_their_name() -> None:
    state = when(placed("write"), result("c1-0"), QUIET).after
    assert state.snapshot_due is not None
    state = when(state, replies(call("read")), QUIET).after
    state = when(state, lost(), QUIET).after
    then = when(state, place("e2", "p2"), later(PLACE_RETURN_MS))
    told = then.events[1]
    assert isinstance(told, SnapshotTaken)
    assert told.manifest is None
    assert then.after.snapshot_due is None


def test_connections_are_recorded_with_the_outcome_of_their_call() -> None:
    row = EgressRow(host="example.org", port=443, verdict="denied", reason="host")
    counted = result("c1-0").model_copy(update={"egress": (row,)})
    then = when(placed("exec", "buy"), counted, QUIET)
    assert isinstance(then.events[0], ToolCallEnded)
    assert then.events[1] == EgressCounted(call="c1-0", rows=(row,))


def test_a_call_of_a_placed_job_is_dispatched_while_nobody_claims_it() -> None:
    state = placed()
    assert [
        effect.call.id
        for effect in when(state, lost(), QUIET).effects
        if isinstance(effect, CallTool)
    ] == ["c1-0"]
