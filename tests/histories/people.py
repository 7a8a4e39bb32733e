"""Golden logs of runs with people, rules, money and teams that change. Not a test."""

from dataclasses import replace

from domain import commands as c
from domain.content import TextPart
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    TopologySkill,
)
from domain.ids import RunRef
from domain.limits import Limits, ModelChoice, Price, Usage
from domain.policy import PolicyRule
from tests.support.office import LOOK, PAY, Office
from tests.support.runs import (
    answers,
    approves,
    call,
    claim,
    delegate,
    denies,
    fails,
    goes_on,
    replies,
    result,
    steers,
    tells,
)

ROOT = RunRef("acme", "people", "root")
PRICE = Price(input=3_000_000, output=15_000_000, cached=300_000, source="a list", as_of="2026-11")
MODEL = ModelChoice(provider="scripted", model="first", output_tokens_max=1_000, price=PRICE)
SECOND = MODEL.model_copy(update={"model": "second"})
CONFIG = """
[experts.checker]
instruction = "Check it."
"""


def crew(limits: Limits | None = None) -> Definition:
    """A boss who may ask, pay after asking, and change the team; a helper who may not pay."""
    question = InteractiveTool(description="Ask.", parameters={"type": "object"})
    boss = Expert(
        key="boss",
        instruction="Lead.",
        delegates=("helper",),
        skills={
            BASE_SKILL: BaseSkill(),
            "own": LocalSkill(tools=("look", "pay")),
            "people": InteractiveSkill(tools={"ask": question}),
            "team": TopologySkill(),
        },
        model=MODEL,
        fallbacks=(SECOND,),
    )
    helper = Expert(
        key="helper",
        instruction="Help.",
        skills={BASE_SKILL: BaseSkill(), "own": LocalSkill(tools=("pay",))},
        model=MODEL,
    )
    return Definition(
        experts={"boss": boss, "helper": helper},
        limits=limits or Limits(money_max=1_000_000, tool_calls_max=20),
        policy=(PolicyRule(verdict="ask", tool="pay", reason="it costs money"),),
    )


def staffed(limits: Limits | None = None) -> Office:
    return Office(crew(limits), tools={"look": LOOK, "pay": PAY})


async def asked() -> dict[str, list[bytes]]:
    """Approvals given, edited, refused and by a rule; a question; a word in between, at once."""
    desk = staffed()
    await desk.start(ROOT)
    pay = call("pay", '{"amount": 4}')
    await desk.tell(ROOT, replies(pay, pay, pay, call("ask", '{"what": "colour"}')))
    await desk.tell(
        ROOT,
        approves("c1-0", "a1"),
        approves("c1-1", "a2", arguments='{"amount": 1}'),
        denies("c1-2", "n1", reason="too dear"),
        answers("c1-3", "blue"),
        result("c1-0", "paid 4"),
        result("c1-1", "paid 1"),
        steers("hurry", now=True),
        replies(pay),
        c.ChangePolicy(id="r1", rules=(PolicyRule(verdict="allow", tool="pay"),)),
        result("c2-0", "paid"),
        replies("done", usage=Usage(input=400, output=40, cached=100)),
    )
    return {"asked": desk.lines(ROOT)}


async def held() -> dict[str, list[bytes]]:
    """A parent that is paused and resumed with its child at work, and rules for both."""
    desk = staffed()
    await desk.start(ROOT)
    state = await desk.tell(ROOT, replies(delegate("help")))
    delegation = state.calls["c1-0"].delegation
    assert delegation is not None
    child = RunRef(ROOT.tenant, ROOT.job, delegation.child)
    await desk.handle_queued()
    await desk.tell(ROOT, c.PauseRun(id="p1"))
    await desk.handle_queued()
    await desk.tell(child, replies(call("pay")))
    await desk.tell(ROOT, c.ResumeRun(id="p2"))
    allow = PolicyRule(verdict="allow", tool="pay", expert="helper")
    await desk.tell(ROOT, c.ChangePolicy(id="r1", rules=(allow,)))
    await desk.handle_queued()
    await desk.tell(child, result("c1-0", "paid"), replies("paid it"))
    await desk.handle_queued()
    await desk.tell(ROOT, replies("all done"))
    return {"held-parent": desk.lines(ROOT), "held-child": desk.lines(child)}


async def bounded() -> dict[str, list[bytes]]:
    """A soft limit that a person lifts, tool calls that run out, another model, and the wall."""
    limits = Limits(
        money_max=1_000_000,
        money_soft=50_000,
        tool_calls_max=1,
        generation_attempts_max=1,
        wall_ms_max=3_600_000,
    )
    desk = staffed(limits)
    await desk.start(ROOT)
    look = call("look")
    await desk.tell(ROOT, fails("overloaded"), replies(look, usage=Usage(input=9_000, output=900)))
    await desk.tell(ROOT, result("c1-0", "seen"), approves("budget-1", "a1"), replies(look))
    more = c.ContinueRun(
        id="more", parts=(TextPart(text="go on"),), tool_calls_max=5, wall_ms_max=60_000
    )
    await desk.tell(ROOT, more)
    await desk.fire(ROOT)
    await desk.tell(ROOT, goes_on("again", "k2"))
    return {"bounded": desk.lines(ROOT)}


async def reformed() -> dict[str, list[bytes]]:
    """An expert that is made, added, called and removed; another one from a file."""
    desk = staffed()
    desk.desk = replace(desk.desk, parse_definition=_checker)
    await desk.start(ROOT)
    made = '{"key": "@boss/maker", "instruction": "Make it."}'
    await desk.tell(ROOT, replies(call("createExpert", made)))
    await desk.handle_queued()
    await desk.tell(ROOT, replies(call("addDelegate", '{"expertKey": "@boss/maker"}')))
    await desk.handle_queued()
    asked_for = '{"path": "perstack.toml", "expertKey": "checker"}'
    await desk.tell(ROOT, replies(call("addDelegateFromConfig", asked_for)))
    await desk.tell(ROOT, claim("c3-0"), result("c3-0", CONFIG))
    await desk.handle_queued()
    await desk.tell(ROOT, replies(call("maker", '{"query": "make"}')), tells("c4-0"))
    await desk.tell(ROOT, replies(call("removeDelegate", '{"expertKey": "@boss/maker"}')))
    await desk.handle_queued()
    await desk.tell(ROOT, replies(call("maker", '{"query": "once more"}')), replies("done"))
    return {"reformed": desk.lines(ROOT)}


def _checker(text: str) -> Definition:
    assert text == CONFIG
    checker = Expert(
        key="checker", instruction="Check it.", skills={BASE_SKILL: BaseSkill()}, model=MODEL
    )
    return Definition(experts={"checker": checker})
