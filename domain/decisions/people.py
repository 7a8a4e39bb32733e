"""Rules, approvals and questions: whether a call may begin, and what people say of it.

Not who may decide: that is for whoever lets people in.
"""

from typing import Any, Literal

from domain import commands as c
from domain import events as e
from domain.content import BlobRef, Text
from domain.decisions.advance import advance, go_on
from domain.decisions.asks import expire_ask
from domain.decisions.stopping import give_back, stop_at
from domain.draft import Draft, worst_case
from domain.effects import started_children
from domain.errors import Rejected
from domain.folds.calls import COUNTED
from domain.folds.people import answer_timer
from domain.ids import child_run_id, derive_id
from domain.loop_tools import delegate_task, is_completion, parse_arguments
from domain.names import own_name
from domain.policy import Asked, Judgement, judge
from domain.record import canonical, digest_of
from domain.schemas import schema_problem
from domain.state import Approval, Call, Conversation, RunState
from domain.tools import EXECUTED, Lane

Verdict = Literal["approved", "denied"]

RULES_MAX = 256
RULES_BYTES_MAX = 64 * 1024
"""How many rules people may give a run, and their size: every run below it is told all of them."""

EXPIRED = "Nobody answered in time; the call did not run. Go on without it, or ask again later."


def admit(draft: Draft, call: Call) -> None:
    """Let a call begin, have a person asked, or refuse it: as limits and rules say (C12, C14)."""
    state = draft.state
    calls_max = state.limits.tool_calls_max
    used = state.tool_calls - state.tool_calls_base + state.tool_calls_reserved
    if call.lane in COUNTED and calls_max is not None and used > calls_max:
        draft.emit(e.LimitReached(limit="tool_calls", call=call.id))
        text = f"The run may make {calls_max} tool calls, and none is left."
        _refuse(draft, call, "budget_exhausted", text)
        return
    found = judgement(state, call)
    if found.verdict == "allow":
        begin(draft, call)
    elif found.verdict == "deny":
        _refuse_by_rule(draft, call, found)
    else:
        due_ms = _arm_expiry(draft, call.id)
        digest = arguments_digest(call)
        draft.emit(
            e.ApprovalRequested(approval=call.id, digest=digest, reason=found.reason, due_ms=due_ms)
        )


def begin(draft: Draft, call: Call) -> None:
    """A call that may run goes its way."""
    if call.lane is Lane.PERSON:
        draft.emit(e.QuestionAsked(call=call.id, due_ms=_arm_expiry(draft, call.id)))
    elif call.lane is not Lane.DELEGATE:
        draft.claim(call)


def judgement(state: RunState, call: Call) -> Judgement:
    """What the rules say of a call."""
    arguments = parse_arguments(call.arguments)
    return _judged(state, call, arguments)


def _judged(state: RunState, call: Call, arguments: dict[str, Any] | None) -> Judgement:
    entry = state.tool(call.tool)
    own = own_name(entry.remote) if entry is not None and entry.remote else ""
    asked = Asked(state.expert, call.skill, call.tool, arguments, own)
    return judge(state.layers, (*state.rules, *state.rules_above), asked)


def arguments_digest(call: Call) -> str:
    """What an approval is about: the exact arguments, inline or not."""
    arguments = call.arguments
    return arguments.digest if isinstance(arguments, BlobRef) else digest_of(arguments.encode())


def carve_delegations(draft: Draft, calls: list[Call]) -> None:
    """Split what is left over all children that may come of this step and the run itself (rule 8).

    One that waits for a person keeps its share until that is decided: the last to be allowed gets
    as much as the first.
    """
    state = draft.state
    if not calls or any(one.limit is not None for one in state.approvals.values()):
        return  # what a person has to allow first is carved then
    coming = [c for c in state.open_calls if c.lane is Lane.DELEGATE and c.delegation is None]
    shares = len(coming) + 1
    short = _too_little(state, shares)
    if short is not None:
        draft.ask_beyond(*short)
        return
    limits = state.limits.model_copy(
        update={
            "steps_max": state.steps_left // shares,
            "tokens_max": _share(_until_soft(state, "tokens"), shares),
            "money_max": _share(_until_soft(state, "money"), shares),
            "tool_calls_max": _share(state.tool_calls_left, shares),
            "tokens_soft": None,  # only who has people to ask asks; a child's share is below it
            "money_soft": None,
            "wall_ms_max": None,  # its caller's time ends it, too
        }
    )
    for call in calls:
        entry = state.tool(call.tool)
        draft.emit(
            e.DelegationRequested(
                call=call.id,
                child=child_run_id(state.ref.run, call.id),
                expert=(entry.expert if entry else None) or call.tool,
                limits=limits,
            )
        )


def _uncarved(state: RunState) -> list[Call]:
    """The delegates that may begin and have no share yet."""
    return [
        call
        for call in state.open_calls
        if call.lane is Lane.DELEGATE and call.delegation is None and call.id not in state.approvals
    ]


def _too_little(state: RunState, shares: int) -> tuple[e.LimitName, int] | None:
    """A soft limit that leaves a child too little for one reply, where the hard one would not."""
    first = worst_case(state, Conversation())  # its rules and tools are about as long as ours
    wanted: tuple[tuple[e.LimitName, int, int | None, int | None], ...] = (
        ("tokens", first.tokens, state.limits.tokens_soft, state.tokens_left),
        ("money", first.money, state.limits.money_soft, state.money_left),
    )
    for limit, need, soft, left in wanted:
        if soft is None or limit in state.lifted:
            continue
        share = _share(_until_soft(state, limit), shares)
        hard = _share(left, shares)
        if share is not None and share < need and (hard is None or hard > share):
            return limit, soft
    return None


def _share(left: int | None, shares: int) -> int | None:
    return None if left is None else left // shares


def _until_soft(state: RunState, limit: e.LimitName) -> int | None:
    """What is left below the hard limit, and below a soft one that nobody has lifted."""
    if limit == "tokens":
        left, soft = state.tokens_left, state.limits.tokens_soft
        used = state.tokens_charged - state.tokens_base + state.tokens_reserved
    else:
        left, soft = state.money_left, state.limits.money_soft
        used = state.money_charged - state.money_base + state.money_reserved
    if soft is None or limit in state.lifted:
        return left
    below = max(0, soft - used)
    return below if left is None else min(left, below)


def decide_approval(draft: Draft, command: c.DecideApproval) -> None:
    """What runs is the recorded call, or the one with the person's arguments (C14)."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    approval = state.approvals.get(command.approval)
    if approval is None:
        waiting = ", ".join(state.approvals) or "nothing"
        message = f"{command.approval!r} does not wait for approval in this run; {waiting} does"
        raise Rejected("not_waiting", message)
    if command.digest not in (None, approval.digest):
        message = f"{command.approval!r} waits with other arguments than those you were shown"
        raise Rejected("other_arguments", message)
    if not command.approve:
        _deny(draft, command, approval)
    elif approval.limit is not None:
        draft.emit(_decided(command, approval, "approved"))
        carve_delegations(draft, _uncarved(draft.state))
        go_on(draft)
    else:
        _approve(draft, command, approval)


def _approve(draft: Draft, command: c.DecideApproval, approval: Approval) -> None:
    call = draft.state.calls[command.approval]
    if command.arguments is None:
        draft.emit(_decided(command, approval, "approved"))
    else:
        _edit(draft, command, call)
    _let_go(draft, call.id)


def _let_go(draft: Draft, name: str) -> None:
    call = draft.state.calls[name]
    if call.lane is Lane.DELEGATE and draft.state.tool(call.tool) is None:
        text = f"{call.tool} is no delegate of yours any more."
        _refuse(draft, call, "unknown_tool", text)
        advance(draft)
        return
    begin(draft, call)
    if call.lane is Lane.DELEGATE:
        carve_delegations(draft, [call])


def _edit(draft: Draft, command: c.DecideApproval, call: Call) -> None:
    """A new digest, visible in the history, and told to the model with the next request."""
    state, text = draft.state, command.arguments
    if text is None:
        return
    arguments = parse_arguments(text)
    problem = _edit_problem(state, call, text, arguments)
    if problem is not None:
        raise Rejected("bad_arguments", problem)
    found = _judged(state, call, arguments)
    if found.verdict == "deny":
        raise Rejected("denied_by_rule", f"a rule forbids these arguments: {found.reason}")
    digest = text.digest if isinstance(text, BlobRef) else digest_of(text.encode())
    shown = f"{text.size} bytes" if isinstance(text, BlobRef) else text
    draft.emit(
        e.ApprovalDecided(
            approval=command.approval,
            verdict="edited",
            command=command.id,
            digest=digest,
            arguments=text,
            reason=command.reason,
            by=command.by,
        )
    )
    said = f"A person changed the arguments of your call of {call.tool} before it ran: {shown}"
    draft.note("edited", call.id, said)


def _edit_problem(
    state: RunState, call: Call, text: Text, arguments: dict[str, Any] | None
) -> str | None:
    """Why a call cannot run with a person's arguments: what a model's own would be refused for."""
    if isinstance(text, BlobRef):
        executed = call.lane in EXECUTED
        return None if executed else "the arguments are over 32 KiB: write the text to a file"
    if arguments is None:
        return "the arguments must be a JSON object"
    entry = state.tool(call.tool)
    schema = None if entry is None else entry.input_schema
    if schema is not None:
        problem = schema_problem(schema, arguments)
        return problem and f"the arguments do not fit {call.tool}: {problem}"
    if call.lane is Lane.DELEGATE and not delegate_task(arguments, None):
        return "a delegate needs its task: a text in the parameter query"
    return None


def _deny(draft: Draft, command: c.DecideApproval, approval: Approval) -> None:
    draft.emit(_decided(command, approval, "denied"))
    if approval.limit is not None:
        stop_at(draft, approval.limit, derive_id("stop", draft.state.ref.run, command.id))
        return
    why = f": {command.reason}" if command.reason else "."
    text = f"A person did not allow this call{why}"
    _refuse(draft, draft.state.calls[command.approval], "denied", text)
    advance(draft)


def _decided(command: c.DecideApproval, approval: Approval, verdict: Verdict) -> e.ApprovalDecided:
    return e.ApprovalDecided(
        approval=command.approval,
        verdict=verdict,
        command=command.id,
        digest=approval.digest,
        reason=command.reason,
        by=command.by,
    )


def answer_question(draft: Draft, command: c.AnswerQuestion) -> None:
    """A person's answer is the result of the call, once."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    call = state.calls.get(command.call)
    if call is None or call.ended is not None or not call.asked:
        waiting = ", ".join(one.id for one in state.open_calls if one.asked) or "nothing"
        message = f"{command.call!r} is no open question of this run; {waiting} is"
        raise Rejected("not_waiting", message)
    if not command.parts:
        raise Rejected("empty_input", "the answer is empty")
    draft.emit(
        e.QuestionAnswered(call=call.id, command=command.id, parts=command.parts, by=command.by),
        e.ToolCallEnded(call=call.id, outcome="succeeded", content=command.parts),
    )
    advance(draft)


def change_policy(draft: Draft, command: c.ChangePolicy) -> None:
    """New rules, and another look at every call that waits."""
    state = draft.state
    if command.id in state.commands_seen:
        return
    if not state.expert:
        raise Rejected("no_such_run", f"no run {state.ref.run!r}; start it first")
    if state.parent is not None and state.at_rest:
        raise Rejected("at_rest", f"run {state.ref.run!r} is over; change the rules of its job")
    rules = command.rules if command.replace else (*command.rules, *state.rules)
    size = sum(len(canonical(rule)) for rule in rules)
    if len(rules) > RULES_MAX or size > RULES_BYTES_MAX:
        message = f"at most {RULES_MAX} rules of {RULES_BYTES_MAX} bytes together; replace them"
        raise Rejected("too_many_rules", message)
    draft.emit(
        e.PolicyChanged(command=command.id, rules=rules, inherited=state.rules_above, by=command.by)
    )
    reconsider(draft, command.by)


def adopt_standing(draft: Draft, standing: c.Standing | None) -> None:
    """Hear what the parent says of rules and pauses, if it is news.

    A pause of the parent pauses, and its end resumes, once each. Without news of either, a person's
    own word about this run stands.
    """
    state = draft.state
    if standing is None or standing.number <= state.standing_above:
        return
    if state.at_rest or state.cancelling:
        return
    draft.emit(e.StandingAdopted(number=standing.number, turned=standing.turned))
    name = derive_id("standing", state.ref.run, str(standing.number))
    turned = standing.turned > state.turned_above
    if turned and standing.paused and not state.paused:
        draft.emit(e.RunPaused(command=name))
    elif turned and state.paused and not standing.paused:
        resume(draft, name, e.NOBODY)
    if standing.rules != state.rules_above and not draft.state.at_rest:
        draft.emit(e.PolicyChanged(command=name, rules=state.rules, inherited=standing.rules))
        reconsider(draft, e.NOBODY)


def resume(draft: Draft, command: str, by: e.Principal) -> None:
    """What was kept back goes out, and the run asks for what it was about to ask for."""
    draft.emit(e.RunResumed(command=command, by=by))
    for call in draft.state.open_calls:
        if call.holder is None:
            draft.claim(call)
    go_on(draft)


def reconsider(draft: Draft, by: e.Principal) -> None:
    """Look again at the calls that wait or have not begun: rules may allow or deny them now."""
    before = len(draft.events)
    for call in draft.state.open_calls:
        if call.id in draft.state.approvals:
            _reconsider_waiting(draft, call, by)
        elif _has_not_begun(draft.state, call):
            found = judgement(draft.state, call)
            if found.verdict == "deny":
                give_back(draft, call)
                _refuse_by_rule(draft, call, found)
    if len(draft.events) > before:
        advance(draft)


def _has_not_begun(state: RunState, call: Call) -> bool:
    """Whether nobody can be at a call: it is kept back, or its delegate waits for its turn."""
    if is_completion(call) or call.asked or call.may_have_begun:
        return False
    if call.lane is Lane.DELEGATE:
        return call.id not in {one.id for one in started_children(state)}
    return True


def _reconsider_waiting(draft: Draft, call: Call, by: e.Principal) -> None:
    found = judgement(draft.state, call)
    if found.verdict == "ask":
        return
    allowed = found.verdict == "allow"
    draft.emit(
        e.ApprovalDecided(
            approval=call.id,
            verdict="approved" if allowed else "denied",
            digest=draft.state.approvals[call.id].digest,
            reason=found.reason,
            by_rule=True,
            by=by,
        )
    )
    if allowed:
        _let_go(draft, call.id)
    else:
        _refuse_by_rule(draft, draft.state.calls[call.id], found)


def expire(draft: Draft, timer: str) -> None:
    """The time to answer is over: the model, or the limit, goes on without the person."""
    state = draft.state
    name = timer.removeprefix(answer_timer(""))
    if expire_ask(draft, name):
        return
    approval, call = state.approvals.get(name), state.calls.get(name)
    if approval is not None:
        draft.emit(e.ApprovalDecided(approval=name, verdict="expired", digest=approval.digest))
    if approval is not None and approval.limit is not None:
        stop_at(draft, approval.limit, derive_id("stop", state.ref.run, name))
        return
    if call is None or call.ended is not None:
        return
    if call.asked:
        expired = derive_id("expired", state.ref.run, name)
        draft.emit(e.QuestionAnswered(call=name, command=expired, parts=(), expired=True))
        body = {"error": "expired", "message": "Nobody answered in time."}
        draft.end_call(call, "failed", body, is_error=True)
    else:
        _refuse(draft, call, "expired", EXPIRED)
    advance(draft)


def _refuse_by_rule(draft: Draft, call: Call, found: Judgement) -> None:
    why = f": {found.reason}" if found.reason else "."
    _refuse(draft, call, "denied", f"A rule of this run does not allow this call{why}")


def _refuse(draft: Draft, call: Call, kind: str, text: str) -> None:
    draft.end_call(call, "refused", {"error": kind, "message": text}, is_error=True)


def _arm_expiry(draft: Draft, name: str) -> int | None:
    return draft.arm(answer_timer(name), "answer_expiry", draft.state.limits.answer_ms_max)
