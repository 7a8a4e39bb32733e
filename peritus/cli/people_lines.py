"""How what people are asked, and what they do, reads in a line of the live view. Not the view."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from domain import events as e
from domain.asks import Elicitation
from domain.content import ContentPart, Text, TextPart
from peritus.cli.asks import money, tokens, who
from peritus.cli.wording import call_line, clean, short

SAID_CHARS_MAX = 200
ASK = "bold magenta"
HELD = "yellow"

Calls = Mapping[str, e.ToolCallRequested]


class Line(NamedTuple):
    """A mark, a text and how it is coloured."""

    mark: str
    text: str
    style: str


def people_line(event: e.Event, calls: Calls) -> Line | None:
    """The line of an event that is about people; None of any other."""
    match event:
        case e.RunPaused(by=by):
            return Line("‖", f"paused{_by(by)}", HELD)
        case e.RunResumed(by=by):
            return Line("▶", f"goes on{_by(by)}", HELD)
        case e.PolicyChanged(by=by, rules=rules) if by != e.NOBODY:
            count = f"{len(rules)} rule{'s' * (len(rules) != 1)} of people"
            return Line("§", f"{count} in force{_by(by)}", "dim")
        case e.TeamChanged(action=action, names=names):
            return Line("+", f"{action} {clean(', '.join(names))}", "dim")
        case _:
            return _asked(event, calls) or _answered(event, calls)


def _asked(event: e.Event, calls: Calls) -> Line | None:
    match event:
        case e.ApprovalRequested(limit=None, approval=name, reason=reason):
            why = f" ({short(reason, SAID_CHARS_MAX)})" if reason else ""
            return Line("?", f"waits for your approval: {_named(name, calls)}{why}", ASK)
        case e.ApprovalRequested(limit=limit, soft=soft):
            most = money(soft or 0) if limit == "money" else tokens(soft or 0)
            return Line("?", f"waits for you: may it use more than {most}?", ASK)
        case e.QuestionAsked(call=name):
            return Line("?", f"waits for your answer: {_named(name, calls)}", ASK)
        case e.ToolCallAsked(call=name, about=Elicitation(message=message)):
            said = short(message, SAID_CHARS_MAX)
            return Line("?", f"{_tool(name, calls)} asks you: {said}", ASK)
        case e.ToolCallAsked(call=name):
            return Line("?", f"{_tool(name, calls)} asks the model", "dim")
        case _:
            return None


def _answered(event: e.Event, calls: Calls) -> Line | None:
    match event:
        case e.QuestionAnswered(expired=True):
            return Line("!", "nobody answered in time", HELD)
        case e.QuestionAnswered(by=by, parts=parts):
            return Line("»", f"{said(parts)}  — {who(by)}", "dim")
        case e.ApprovalDecided():
            return _decided(event, calls)
        case e.ToolCallAnswered():
            return _answered_tool(event, calls)
        case _:
            return None


def _answered_tool(event: e.ToolCallAnswered, calls: Calls) -> Line | None:
    """What became of what a tool asked; what went with its call or its run is told with that."""
    tool = _tool(event.call, calls)
    match event:
        case e.ToolCallAnswered(source="person", action="accept", content=content):
            said = short(json.dumps(content or "accepted", ensure_ascii=False), SAID_CHARS_MAX)
            return Line("»", f"to {tool}: {said}  — {who(event.by)}", "dim")
        case e.ToolCallAnswered(source="person"):
            word = "declined" if event.action == "decline" else "closed"
            return Line("✗", f"{word} by {who(event.by)}: what {tool} asked", HELD)
        case e.ToolCallAnswered(source="model", sampled=None) | e.ToolCallAnswered(source="limit"):
            return Line("!", f"no reply for {tool}: {short(event.reason, SAID_CHARS_MAX)}", HELD)
        case e.ToolCallAnswered(source="expired"):
            return Line("!", f"nobody answered {tool} in time", HELD)
        case _:
            return None


def _tool(name: str, calls: Calls) -> str:
    return clean(calls[name].tool) if name in calls else name


def _decided(event: e.ApprovalDecided, calls: Calls) -> Line:
    what, call = _named(event.approval, calls), calls.get(event.approval)
    if event.arguments is not None and call is not None:
        what = call_line(call.tool, event.arguments)
    how = " by a rule" if event.by_rule else ""
    why = f": {short(event.reason, SAID_CHARS_MAX)}" if event.reason else ""
    good = event.verdict in ("approved", "edited")
    text = f"{event.verdict}{how}{_by(event.by)}{why} · {what}"
    return Line("✓" if good else "✗", text, "green" if good else HELD)


def _named(name: str, calls: Calls) -> str:
    call = calls.get(name)
    return call_line(call.tool, call.arguments) if call else name


def _by(by: e.Principal) -> str:
    return "" if by == e.NOBODY else f" by {who(by)}"


def told_line(event: e.InputReceived, *, first: bool) -> Line:
    """What an expert is told; by whom, if it is not its task."""
    lead = "note:" if event.speaker == "runtime" else "»"
    by = "" if first or event.by == e.NOBODY else f"  — {who(event.by)}"
    return Line(lead, said(event.parts) + by, "dim")


def said(parts: tuple[ContentPart, ...]) -> str:
    """The texts of some parts in a line."""
    texts = (in_line(part.text) for part in parts if isinstance(part, TextPart))
    return short(" ".join(texts), SAID_CHARS_MAX)


def in_line(text: Text) -> str:
    """A text that is not too long to be shown, or how long it is."""
    return text if isinstance(text, str) else f"{text.size:,} bytes of text"
