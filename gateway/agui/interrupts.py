"""What waits for a person, as interrupts; and their answers, as commands. Not the decisions."""

from datetime import UTC, datetime
from typing import Any, cast

import orjson
from ag_ui.core.types import Interrupt

from domain.asks import whole_answer
from domain.commands import AnswerAsk, AnswerQuestion, DecideApproval
from domain.content import TextPart
from domain.errors import Rejected
from domain.events import Principal
from domain.schemas import wrong_fields
from eventlog.port import Blobs
from gateway.agui.names import InterruptName, call_of
from gateway.turns.questions import question_of
from projections.waits import Wait, wait_json

UNANSWERED = "The person closed the question without an answer."
"""What an expert reads when its question is cancelled: it has to go on somehow."""

DECISION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "reason": {"type": "string"},
        "editedArgs": {"type": "object"},
    },
    "required": ["approved"],
}

Answering = AnswerQuestion | AnswerAsk | DecideApproval


def name_of(wait: Wait) -> str:
    """The id of the interrupt that a wait is."""
    return str(InterruptName(wait.ref.run, wait.id, wait.digest))


async def interrupt_of(blobs: Blobs, wait: Wait, root: str) -> Interrupt:
    """A wait as an interrupt; `metadata.peritus` has all that a person has to be shown.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: what is stored is not what was written.
    """
    facts = await wait_json(blobs, wait)
    return Interrupt(
        id=name_of(wait),
        reason=_reason(wait),
        message=_message(wait, facts),
        tool_call_id=None if wait.kind in ("budget", "ask") else call_of(wait.ref.run, wait.id),
        response_schema=_schema(wait),
        expires_at=None if wait.due_ms is None else _iso(wait.due_ms),
        subagent_run_id=None if wait.ref.run == root else wait.ref.run,
        metadata={"peritus": facts},
    )


def command_of(
    wait: Wait, name: str, payload: object, by: Principal, *, cancelled: bool
) -> Answering:
    """The command that an answer to an interrupt is.

    Raises:
        Rejected: the answer is not what is asked for.
    """
    match wait.kind:
        case "question":
            text = UNANSWERED if cancelled else _as_text(payload)
            parts = (TextPart(text=text),)
            return AnswerQuestion(id=name, call=wait.id, parts=parts, by=by)
        case "ask":
            return _ask(wait, name, payload, by, cancelled=cancelled)
        case "approval" | "budget":
            return _decision(wait, name, payload, by, cancelled=cancelled)


def _ask(wait: Wait, name: str, payload: object, by: Principal, *, cancelled: bool) -> AnswerAsk:
    if cancelled:
        return AnswerAsk(id=name, ask=wait.id, action="cancel", by=by)
    if payload is False:
        return AnswerAsk(id=name, ask=wait.id, action="decline", by=by)
    content = cast("dict[str, Any]", payload) if isinstance(payload, dict) else None
    about = wait.about
    if about is not None and about.form is not None:
        wrong = wrong_fields(about.form, whole_answer(about, "accept", content) or {})
        if wrong:
            raise Rejected("bad_answer", "; ".join(f"{at}: {why}" for at, why in wrong))
    return AnswerAsk(id=name, ask=wait.id, action="accept", content=content, by=by)


def _decision(
    wait: Wait, name: str, payload: object, by: Principal, *, cancelled: bool
) -> DecideApproval:
    said = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {"approved": payload}
    approved = said.get("approved")
    if cancelled:
        approved, said = False, {}
    if not isinstance(approved, bool):
        raise Rejected("bad_answer", "approved: has to be true or false")
    edited = said.get("editedArgs")
    return DecideApproval(
        id=name,
        approval=wait.id,
        approve=approved,
        digest=wait.digest,
        arguments=None if edited is None or not approved else orjson.dumps(edited).decode(),
        reason=str(said.get("reason") or ""),
        by=by,
    )


def _reason(wait: Wait) -> str:
    return {"approval": "tool_call", "budget": "peritus:budget"}.get(wait.kind, "input_required")


def _message(wait: Wait, facts: dict[str, Any]) -> str:
    match wait.kind:
        case "question":
            return question_of(facts)
        case "ask":
            return str(facts.get("message", ""))
        case "budget":
            return f"{wait.expert} would pass its soft limit of {wait.limit}"
        case "approval":
            why = f": {wait.reason}" if wait.reason else ""
            return f"{wait.expert} wants to call {wait.tool}{why}"


def _schema(wait: Wait) -> dict[str, Any] | None:
    match wait.kind:
        case "question":
            return {"type": "string"}
        case "ask":
            form = None if wait.about is None else wait.about.form
            return form or {"type": "boolean"}
        case "approval" | "budget":
            return DECISION_SCHEMA


def _as_text(payload: object) -> str:
    return payload if isinstance(payload, str) else orjson.dumps(payload).decode()


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
