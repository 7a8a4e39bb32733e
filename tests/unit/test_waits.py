"""What waits in runs and jobs, as it is folded from events; and rules that remember. Not views."""

from collections.abc import Iterable

import pytest

from domain import events as e
from domain.content import BlobRef, TextPart
from domain.errors import NoSuchRun, Rejected
from domain.ids import RunRef, child_run_id
from domain.limits import Limits
from domain.policy import Asked, PolicyLayer, PolicyRule, judge
from eventlog.memory import MemoryServer
from eventlog.port import Backbone
from projections.family import Family, load_family, load_look
from projections.remembering import REMEMBERED_CHARS_MAX, allowing, denying
from projections.waits import (
    APPROVALS,
    QUESTIONS,
    Look,
    Wait,
    WaitKind,
    find_wait,
    parsed,
    wait_json,
)
from tests.support.pen import Pen, completed, replied, requested, started

pytestmark = pytest.mark.anyio

REF = RunRef("t", "root", "root")
CHILD = RunRef("t", "root", child_run_id("root", "c1-0"))


def call(name: str, tool: str = "send", lane: str = "tool", text: str = '{"to": "Ada"}') -> e.Event:
    return e.ToolCallRequested.model_validate(
        {
            "call": name,
            "step": 1,
            "provider_id": "p",
            "tool": tool,
            "skill": "office",
            "lane": lane,
            "safety": "unsafe",
            "arguments": text,
            "key": "k",
        }
    )


def approval(name: str, **more: object) -> e.Event:
    facts = {"approval": name, "digest": "d" * 64, "reason": "why", "due_ms": 9} | more
    return e.ApprovalRequested.model_validate(facts)


BEGUN = (*started("boss"), replied(1))


def look(*events: e.Event) -> Look:
    found = Look(REF)
    for version, event in enumerate((*BEGUN, *events), start=1):
        found.hear(event, version, version * 10)
    return found


def test_a_call_waits_from_its_request_until_it_is_decided() -> None:
    asked = look(call("c1-0"), approval("c1-0"))
    (wait,) = asked.waits
    decided = look(
        call("c1-0"), approval("c1-0"), e.ApprovalDecided(approval="c1-0", verdict="approved")
    )

    assert (wait.kind, wait.tool, wait.skill, wait.arguments) == (
        "approval",
        "send",
        "office",
        '{"to": "Ada"}',
    )
    assert (wait.reason, wait.due_ms, wait.since_ms, wait.expert) == ("why", 9, 70, "boss")
    assert wait.name == "c1-0@dddddddd"
    assert decided.waits == ()
    past = decided.asked_of("c1-0")
    assert past is not None
    assert (past.kind, past.tool) == ("approval", "send")
    assert decided.asked_of("c9-9") is None


def test_a_question_waits_until_it_is_answered_and_one_to_be_approved_first_waits_once() -> None:
    person = call("c1-0", "question", "person", '{"text": "Which?"}')
    asked = look(person, e.QuestionAsked(call="c1-0"))
    both = look(person, approval("c1-0"))

    assert [wait.kind for wait in asked.waits] == ["question"]
    assert [wait.kind for wait in both.waits] == ["approval"]
    answered = e.QuestionAnswered(call="c1-0", command="k", parts=(TextPart(text="a"),))
    ended = e.ToolCallEnded(call="c1-0", outcome="succeeded", content=())
    assert look(person, e.QuestionAsked(call="c1-0"), answered, ended).waits == ()


def test_a_budget_has_its_figures_in_the_unit_of_its_limit() -> None:
    money = look(approval("budget-1", digest="", limit="money", soft=5))
    tokens = look(approval("budget-1", digest="", limit="tokens", soft=5))

    assert [(w.kind, w.limit, w.soft, w.used, w.most) for w in money.waits] == [
        ("budget", "money", 5, 0, None)
    ]
    assert [w.used for w in tokens.waits] == [8]
    assert money.waits[0].name == "budget-1"


def test_nothing_waits_in_a_run_at_rest_and_an_event_heard_twice_counts_once() -> None:
    stop = e.RunStopped(limit="tokens", step=1)
    stopped = look(approval("budget-1", limit="tokens", soft=5), stop)
    again = look(call("c1-0"), approval("c1-0"))
    again.hear(approval("c1-0"), 3, 99)

    assert stopped.waits == ()
    assert len(again.waits) == 1


def waits(*names: str, kind: WaitKind = "approval", run: str = "root") -> list[Wait]:
    ref = RunRef("t", "root", run)
    return [Wait(ref, "boss", name, kind, 0, digest="abcd" * 16) for name in names]


def test_the_only_one_is_meant_when_none_is_named_and_else_the_named() -> None:
    one, two = waits("c1-0", "c1-1")

    assert find_wait([one], None, APPROVALS) == one
    assert find_wait([one, two], "c1-1", APPROVALS) == two
    assert find_wait([one], "c1-0@abcdabcd", APPROVALS) == one
    assert find_wait([one], "c1-0@", APPROVALS) == one


@pytest.mark.parametrize(
    ("found", "name", "code"),
    [
        ([], None, "not_waiting"),
        (waits("c1-0", "c1-1"), None, "several_wait"),
        (waits("c1-0"), "c2-0", "not_waiting"),
        (waits("c1-0"), "c1-0@ffff", "other_arguments"),
        (waits("c1-0") + waits("c1-0", run="child"), "c1-0", "several_wait"),
        (waits("c1-0", kind="question"), None, "not_waiting"),
    ],
)
def test_what_is_not_meant_clearly_is_refused(
    found: list[Wait], name: str | None, code: str
) -> None:
    with pytest.raises(Rejected) as refused:
        find_wait(found, name, APPROVALS)
    assert refused.value.code == code


def test_questions_and_approvals_are_not_taken_for_each_other() -> None:
    mixed = waits("c1-0", kind="question") + waits("c1-1")
    assert find_wait(mixed, None, QUESTIONS).id == "c1-0"
    assert find_wait(mixed, None, APPROVALS).id == "c1-1"


async def test_what_waits_is_told_with_arguments_wherever_they_are_kept() -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    digest = await backbone.blobs.put("t", b'{"to": "Ada"}')
    (wait,) = waits("c1-0")
    kept = Wait(wait.ref, "boss", "c1-0", "approval", 0, arguments=BlobRef(digest=digest, size=13))
    budget = Wait(wait.ref, "boss", "budget-1", "budget", 0, limit="money", soft=5, used=1)

    assert (await wait_json(backbone.blobs, kept))["arguments"] == {"to": "Ada"}
    facts = await wait_json(backbone.blobs, budget)
    assert (facts["unit"], facts["soft"], facts["used"], facts["most"]) == ("micro_usd", 5, 1, None)
    assert "arguments" not in facts
    assert parsed('{"cut') == '{"cut'


@pytest.fixture
def backbone() -> Backbone:
    return MemoryServer(now_ms=lambda: 0).backbone()


def delegating() -> tuple[e.Event, ...]:
    return (
        replied(1),
        call("c1-0", "clerk", "delegate", '{"query": "go"}'),
        e.DelegationRequested(call="c1-0", child=CHILD.run, expert="clerk", limits=Limits()),
    )


async def job(backbone: Backbone, *of_child: Iterable[e.Event]) -> Family:
    root, child = Pen(REF), Pen(CHILD)
    await root.write(backbone.log, *started("boss"))
    await root.write(backbone.log, *delegating())
    for events in of_child:
        await child.write(backbone.log, *events)
    return await load_family(backbone.log, REF)


PARENT = e.Parent(run="root", call="c1-0")
CHILD_BEGUN = started("clerk", PARENT)
CHILD_WAITS = (replied(1), call("c1-0"), approval("c1-0"))


async def test_a_job_is_loaded_from_any_of_its_runs_parents_first(backbone: Backbone) -> None:
    await job(backbone, CHILD_BEGUN, CHILD_WAITS)
    family = await load_family(backbone.log, CHILD)

    assert [one.state.ref.run for one in family.under("root")] == ["root", CHILD.run]
    assert (family.parent(CHILD.run), family.parent("root")) == ("root", None)
    assert family.root(CHILD.run) == REF
    assert family.children("root") == (CHILD.run,)
    assert [wait.ref for wait in family.waits("root")] == [CHILD]
    assert family.waits("nobody") == []
    assert (await load_look(backbone.log, CHILD)).waits == tuple(family.waits(CHILD.run))


async def test_a_child_that_has_not_started_is_a_part_of_its_job(backbone: Backbone) -> None:
    family = await job(backbone)
    facts = family.facts(CHILD.run)
    assert (facts["status"], facts["expert"], facts["parent_run"]) == ("new", "clerk", "root")


async def test_a_job_can_be_loaded_as_it_was(backbone: Backbone) -> None:
    await job(backbone, CHILD_BEGUN, CHILD_WAITS)
    then = await load_family(backbone.log, REF, until_seq=3)
    assert then.waits("root") == []
    assert len((await load_family(backbone.log, REF)).waits("root")) == 1


async def test_a_run_nobody_knows_is_no_job(backbone: Backbone) -> None:
    with pytest.raises(NoSuchRun):
        await load_family(backbone.log, RunRef("t", "x", "x"))
    with pytest.raises(NoSuchRun):
        await load_look(backbone.log, RunRef("t", "x", "x"))


async def test_a_job_is_held_only_while_nobody_but_a_person_can_carry_it_on(
    backbone: Backbone,
) -> None:
    held = await job(backbone, CHILD_BEGUN, CHILD_WAITS)
    assert held.held("root")
    child = held.looks[CHILD.run]
    denied = e.ApprovalDecided(approval="c1-0", verdict="denied")
    refused = e.ToolCallEnded(call="c1-0", outcome="refused", content=())
    events: list[e.Event] = [denied, refused, e.StepEnded(step=1), requested(2)]
    for version, event in enumerate(events, start=child.state.version + 1):
        held.hear(CHILD, event, version, 0)
        assert not held.held("root")


@pytest.mark.parametrize(
    "of_child",
    [
        (),  # it is about to start
        (CHILD_BEGUN,),  # it waits for its model
        (CHILD_BEGUN, (*CHILD_WAITS, call("c1-1"))),  # another call is at work
        (CHILD_BEGUN, completed(1)),  # its end is on its way
    ],
)
async def test_a_job_in_which_something_is_at_work_is_not_held(
    backbone: Backbone, of_child: tuple[tuple[e.Event, ...], ...]
) -> None:
    assert not (await job(backbone, *of_child)).held("root")


async def test_a_paused_job_is_held(backbone: Backbone) -> None:
    paused = (replied(1), call("c1-0"), e.RunPaused(command="p"))
    family = await job(backbone, CHILD_BEGUN, paused)
    assert family.held("root")
    assert not Family().held("root")


def verdict(rule: PolicyRule, tool: str, text: dict[str, str], expert: str = "boss") -> str:
    layers = (PolicyLayer(name="definition", rules=(PolicyRule(verdict="ask"),)),)
    return judge(layers, (rule,), Asked(expert, "office", tool, text)).verdict


def test_an_approval_is_remembered_for_that_tool_of_that_expert() -> None:
    (wait,) = look(call("c1-0"), approval("c1-0")).waits
    rule = allowing(wait)

    assert verdict(rule, "send", {"to": "Bob"}) == "allow"
    assert verdict(rule, "other", {"to": "Ada"}) == "ask"
    assert verdict(rule, "send", {"to": "Ada"}, expert="clerk") == "ask"


def test_an_exact_approval_is_remembered_for_these_arguments_and_no_more() -> None:
    (wait,) = look(call("c1-0"), approval("c1-0")).waits
    rule = allowing(wait, arguments='{"to": "Ada"}')

    assert verdict(rule, "send", {"to": "Ada"}) == "allow"
    assert verdict(rule, "send", {"to": "Bob"}) == "ask"
    assert verdict(rule, "send", {"to": "Ada", "copy": "Eve"}) == "ask"


def test_a_denial_is_remembered_and_nothing_undoes_it_by_its_arguments() -> None:
    (wait,) = look(call("c1-0"), approval("c1-0")).waits
    assert verdict(denying(wait, reason="no"), "send", {"to": "Bob"}) == "deny"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [("x" * (REMEMBERED_CHARS_MAX + 1), "too_long"), ("[1]", "bad_arguments")],
)
def test_what_cannot_be_remembered_exactly_is_refused(arguments: str, code: str) -> None:
    (wait,) = look(call("c1-0"), approval("c1-0")).waits
    with pytest.raises(Rejected) as refused:
        allowing(wait, arguments=arguments)
    assert refused.value.code == code


def test_a_decision_about_a_limit_is_not_remembered() -> None:
    (wait,) = look(approval("budget-1", limit="tokens", soft=5)).waits
    with pytest.raises(Rejected, match="about a limit"):
        allowing(wait)
