"""Golden logs of calls that ask a person, and the run's model. Not a test."""

from domain import commands as c
from domain.ids import RunRef
from domain.limits import Limits, Usage
from tests.histories.people import staffed
from tests.support.asking import (
    CONFIRM,
    FORM,
    LINK,
    SAY,
    answers_ask,
    asks,
    closes,
    declines,
    fails_for_tool,
    says_for_tool,
)
from tests.support.runs import approves, call, claim, goes_on, replies, result

ROOT = RunRef("acme", "asking", "root")


async def asking() -> dict[str, list[bytes]]:
    """Forms and links that are answered, declined, closed and expired; a call that ends too soon.

    The model is asked: at once, by another worker, in vain, with no budget left, and by a worker
    that is lost and reports after all.
    """
    limits = Limits(tokens_max=13_000, money_max=1_000_000, answer_ms_max=60_000)
    desk = staffed(limits)
    await desk.start(ROOT)
    await desk.tell(ROOT, replies(call("pay"), call("pay"), call("look")))
    await desk.tell(ROOT, approves("c1-0", "a1"), approves("c1-1", "a2"))
    await desk.tell(ROOT, asks(FORM, "q1"), answers_ask({"count": 2}, "q1", "w1"))
    await desk.tell(ROOT, asks(LINK, "q2"), answers_ask(None, "q2", "w2"))
    await desk.tell(ROOT, asks(CONFIRM, "q3"), declines("q3", "w3"))
    await desk.tell(ROOT, asks(CONFIRM, "q4", call="c1-2"), closes("q4", "w4"))
    await desk.tell(ROOT, asks(CONFIRM, "q5"))
    await desk.tell(ROOT, c.FireTimer(timer="answer-q5"))
    await desk.tell(ROOT, asks(SAY, "q6"), says_for_tool("Short.", "q6"))
    desk.bench.room = False
    await desk.tell(ROOT, asks(SAY, "q7"), c.ClaimSampling(ask="q7", holder="e2"))
    await desk.tell(ROOT, fails_for_tool("network", "q7", Usage(input=9)))
    await desk.tell(ROOT, asks(SAY, "q8"), c.ClaimSampling(ask="q8", holder="e2"))
    await desk.tell(ROOT, c.AbandonHolder(holder="e2"), says_for_tool("Late.", "q8"))
    more = SAY.model_copy(update={"system": "x" * 26_000})
    await desk.tell(ROOT, asks(more, "q9"), asks(FORM, "q10"))
    await desk.tell(ROOT, result("c1-0", "paid"), result("c1-2", "seen"))
    desk.bench.room = True
    await desk.tell(ROOT, asks(SAY, "q11", call="c1-1"), result("c1-1", "paid, too"))
    await desk.tell(
        ROOT, replies(call("look")), claim("c2-0", "e1"), asks(FORM, "q12", call="c2-0")
    )
    await desk.tell(ROOT, c.CancelRun(id="x1"), result("c2-0", "seen"), goes_on("again", "k1"))
    return {"asking": desk.lines(ROOT)}
