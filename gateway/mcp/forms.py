"""What waits for a person as a form that a client can show, and back. Not the sending of either.

A person is shown the exact arguments, and a decision is bound to their digest (C14).
"""

from typing import Any, Literal, NamedTuple, cast

import mcp_types as types
import orjson

from eventlog.port import Blobs
from projections.waits import Wait, arguments_of, parsed

FORM_CHARS_MAX = 20_000
"""How long the text of a form may be; what is longer is looked at with `peritus waiting`."""

ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "title": "Answer"}},
    "required": ["answer"],
}
DECISION: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approve": {"type": "boolean", "title": "Let it happen"},
        "reason": {"type": "string", "title": "Why; the expert reads it"},
    },
    "required": ["approve"],
}
PLAIN = frozenset({"string", "number", "integer", "boolean"})
"""What a field of a form may be, beside a choice of several texts: forms are flat."""

DECLINED = "The person declined to answer."


class Said(NamedTuple):
    """What a person said: an answer, a filled form, a decision with its reason, or nothing."""

    kind: Literal["answer", "filled", "approve", "deny", "nothing"]
    text: str = ""
    content: dict[str, Any] | None = None  # of a form; None: it was declined


async def form_of(blobs: Blobs, wait: Wait) -> types.ElicitRequestFormParams | None:
    """The form for what waits; None when it cannot be shown here: it is too long, or a link.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: the arguments are not what was stored.
    """
    if wait.kind == "ask":
        return _form_of_tool(wait)
    arguments = "" if wait.kind == "budget" else await arguments_of(blobs, wait)
    message = _message(wait, arguments)
    if len(message) > FORM_CHARS_MAX:
        return None
    schema = ANSWER if wait.kind == "question" else DECISION
    return types.ElicitRequestFormParams(message=message, requested_schema=schema)


def _form_of_tool(wait: Wait) -> types.ElicitRequestFormParams | None:
    about = wait.about
    if about is None or about.url is not None:
        return None
    schema = about.form or {"type": "object", "properties": {}}
    message = f"Run {wait.ref.run}: {headline(wait)}.\n\n{about.message}"
    if len(message) > FORM_CHARS_MAX or not _is_flat(schema):
        return None
    return types.ElicitRequestFormParams(message=message, requested_schema=schema)


def _is_flat(schema: dict[str, Any]) -> bool:
    """Whether a client can make a form of it."""
    fields = cast("dict[str, Any]", schema.get("properties", {}))
    return all(
        isinstance(field, dict) and cast("dict[str, Any]", field).get("type") in PLAIN
        for field in fields.values()
    )


def said_in(wait: Wait, result: types.ElicitResult) -> Said:
    """What the person said about what waits."""
    content = result.content or {}
    if result.action == "cancel":
        return Said("nothing")
    if wait.kind == "ask":
        return Said("filled", content=None if result.action == "decline" else dict(content))
    if wait.kind == "question":
        if result.action == "decline":
            return Said("answer", DECLINED)
        # A client that shows a form of its own says more than was asked: all of it is the answer.
        answer = content.get("answer") or orjson.dumps(content).decode()
        return Said("answer", str(answer)) if content else Said("nothing")
    if result.action == "decline":
        return Said("deny", "declined")
    approve = content.get("approve")
    if not isinstance(approve, bool):
        return Said("nothing")
    return Said("approve" if approve else "deny", str(content.get("reason") or ""))


def how_to(wait: Wait) -> str:
    """Where else a person can answer or decide."""
    run = wait.ref.run
    match wait.kind:
        case "question" | "ask":
            return f"peritus answer {run} {wait.id} TEXT"
        case _:
            return f"peritus approve {run} {wait.name}, or peritus deny {run} {wait.name}"


def headline(wait: Wait) -> str:
    """What waits, in one line."""
    match wait.kind:
        case "question":
            return f"{wait.expert} asks a question by {wait.tool}"
        case "ask":
            return f"{wait.tool}, a tool of {wait.expert}, asks"
        case "approval":
            return f"{wait.expert} wants to call {wait.tool}"
        case "budget":
            return f"{wait.expert} wants to go beyond its soft limit of {wait.limit}"


def _message(wait: Wait, arguments: str) -> str:
    why = f" ({wait.reason})" if wait.reason else ""
    if wait.kind == "budget":
        unit = "micro-USD" if wait.limit == "money" else "tokens"
        most = "no hard limit" if wait.most is None else f"at most {wait.most} {unit}"
        figures = f"{wait.used} of {wait.soft} {unit} are used, {most}"
        return f"Run {wait.ref.run}: {headline(wait)}{why}. {figures}."
    value = parsed(arguments)
    shown = arguments
    if isinstance(value, dict):
        shown = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return f"Run {wait.ref.run}: {headline(wait)}{why}.\n\n{shown}"
