"""How what waits for a person reads, and which commands decide it. Not the deciding."""

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any, cast

from domain.asks import Elicitation
from domain.content import Text
from domain.events import Principal
from domain.policy import PolicyRule, literally
from domain.state import RunState
from eventlog.port import Blobs
from peritus.cli.wording import call_line, clean, duration, short
from peritus.definitions.amounts import usd
from projections.waits import Wait, arguments_of, parsed

QUESTION_CHARS_MAX = 500
REASON_CHARS_MAX = 300
HEAD_CHARS_MAX = 160
SINCE_MS_MIN = 1_000
"""Since when something waits is told from here on."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What waits, with the exact arguments: what a person is shown before it is decided (C14)."""

    wait: Wait
    arguments: str = ""


async def shown(blobs: Blobs, wait: Wait) -> Shown:
    """What waits as a person is to see it.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: the arguments are not what was stored.
    """
    return Shown(wait, "" if wait.kind == "budget" else await arguments_of(blobs, wait))


def headline(one: Shown) -> str:
    """What waits, in a line."""
    return f"{clean(one.wait.expert)} {what(one)}"


def what(one: Shown) -> str:
    """The same without who it is."""
    wait = one.wait
    match wait.kind:
        case "question":
            return f"asks: {short(question_of(one), QUESTION_CHARS_MAX)}"
        case "ask":
            return f"asks by {clean(wait.tool)}: {short(_message(wait), QUESTION_CHARS_MAX)}"
        case "approval":
            why = f" ({short(wait.reason, REASON_CHARS_MAX)})" if wait.reason else ""
            return f"wants to call {call_line(wait.tool, one.arguments)}{why}"
        case "budget":
            return budget_line(wait)


def _message(wait: Wait) -> str:
    return wait.about.message if wait.about is not None else ""


def form_lines(about: Elicitation) -> list[str]:
    """What an answer is to hold, a field a line; and a link, whole, for it is to be read first."""
    if about.url is not None:
        return [f"open: {clean(about.url)}"]
    form = about.form or {}
    fields = cast("dict[str, Any]", form.get("properties") or {})
    required = cast("list[object]", form.get("required") or [])
    return [_field(name, one, required=name in required) for name, one in fields.items()]


def _field(name: str, field: object, *, required: bool) -> str:
    facts = cast("dict[str, Any]", field) if isinstance(field, dict) else {}
    told = facts.get("description") or facts.get("title") or ""
    kind = facts.get("enum") or facts.get("type") or "any"
    shown = "|".join(map(str, cast("list[object]", kind))) if isinstance(kind, list) else kind
    optional = "" if required else ", optional"
    if "default" in facts:  # what goes out when the field is left out
        optional = f", else {short(json.dumps(facts['default']), REASON_CHARS_MAX)}"
    why = f": {short(str(told), REASON_CHARS_MAX)}" if told else ""
    return f"{clean(name)} ({short(str(shown), REASON_CHARS_MAX)}{optional}){why}"


def question_of(one: Shown) -> str:
    """The text of a question: the one text in its arguments, else all of them."""
    values = parsed(one.arguments)
    if not isinstance(values, dict):
        return one.arguments
    table = cast("dict[str, Any]", values)
    texts = [value for value in table.values() if isinstance(value, str)]
    if len(texts) == 1:
        return texts[0]
    return call_line(one.wait.tool, one.arguments)


def budget_line(wait: Wait) -> str:
    """The figures of a soft limit that would be passed."""
    figure = money if wait.limit == "money" else tokens
    hard = "none" if wait.most is None else figure(wait.most)
    return (
        f"has used {figure(wait.used or 0)} and may use more than {figure(wait.soft or 0)} "
        f"with its next reply (hard limit: {hard})"
    )


def block(one: Shown, now_ms: int) -> str:
    """What waits in full, in some lines: all that a decision is about."""
    wait = one.wait
    lines = [headline(one)]
    if wait.kind == "approval":
        lines = [f"{clean(wait.expert)} wants to call {call_line(wait.tool, one.arguments)}"]
    if wait.about is not None:
        lines.extend(f"  {line}" for line in _asked_lines(wait.about))
    elif wait.kind != "budget" and not _said_by_headline(one):
        lines.extend(f"  {clean(line)}" for line in pretty(one.arguments).splitlines())
    if wait.kind == "approval" and wait.reason:
        lines.append(f"  because: {short(wait.reason, REASON_CHARS_MAX)}")
    left = "" if wait.due_ms is None else f" · expires in {duration(max(0, wait.due_ms - now_ms))}"
    waited = now_ms - wait.since_ms
    since = f" · for {duration(waited)}" if waited > SINCE_MS_MIN else ""
    lines.append(f"  {wait.name} in run {wait.ref.run}{since}{left}")
    return "\n".join(lines) + "\n"


def _asked_lines(about: Elicitation) -> list[str]:
    whole = clean(about.message).splitlines() if len(about.message) > QUESTION_CHARS_MAX else []
    return [*whole, *form_lines(about)]


def _said_by_headline(one: Shown) -> bool:
    """Whether a question has nothing but the text that its headline tells whole."""
    values = parsed(one.arguments)
    if one.wait.kind != "question" or not isinstance(values, dict):
        return False
    text = question_of(one)
    return len(cast("dict[str, Any]", values)) == 1 and len(text) < QUESTION_CHARS_MAX


def pretty(arguments: Text) -> str:
    """Arguments as people read them, one a line; a text of several lines as it is."""
    if not isinstance(arguments, str):
        return f"({arguments.size:,} bytes)"
    value = parsed(arguments)
    if not isinstance(value, dict):
        return arguments
    return "\n".join(_pretty(name, one) for name, one in cast("dict[str, Any]", value).items())


def _pretty(name: str, value: object) -> str:
    if isinstance(value, str) and "\n" in value:
        lines = "\n".join(f"  | {line}" for line in value.split("\n"))
        return f"{name}:\n{lines}"
    return f"{name}: {json.dumps(value, ensure_ascii=False)}"


def commands_for(wait: Wait) -> list[str]:
    """The command lines that answer or decide."""
    run = wait.ref.run
    if wait.kind == "question":
        return [f"peritus answer {run} {wait.id} TEXT"]
    if wait.about is not None:
        accept = "--accept" if wait.about.form is None else "TEXT_OR_JSON"
        return [
            f"peritus answer {run} {wait.id} {accept}",
            f"peritus answer {run} {wait.id} --decline",
        ]
    name = shlex.quote(wait.name)
    stops = "  # the run stops" if wait.kind == "budget" else ""
    return [f"peritus approve {run} {name}", f"peritus deny {run} {name}{stops}"]


def money(micro_usd: int) -> str:
    """Micro-USD as people write dollars; below a cent with as many digits as it takes."""
    return f"${usd(micro_usd)}"


def tokens(number: int) -> str:
    """A number of tokens."""
    return f"{number:,} tokens"


def who(by: Principal) -> str:
    """Somebody as a name and the way they came."""
    name = clean(by.name) or "somebody"
    return f"{name} ({clean(by.via)})" if by.via else name


def rule_line(rule: PolicyRule) -> str:
    """A rule in a line: what it says, and of which calls."""
    names = (("expert", rule.expert), ("skill", rule.skill), ("tool", rule.tool))
    parts = [f"{name} {clean(_unescaped(pattern))}" for name, pattern in names if pattern != "*"]
    parts.extend(
        f"{clean(path)}={short(pattern, HEAD_CHARS_MAX)}"
        if path
        else f"with exactly {short(_unescaped(pattern), HEAD_CHARS_MAX)}"
        for path, pattern in rule.arguments.items()
    )
    of = ", ".join(parts) or "every call"
    why = f"  ({short(rule.reason, REASON_CHARS_MAX)})" if rule.reason else ""
    return f"{rule.verdict:<5}  {of}{why}"


def _unescaped(pattern: str) -> str:
    """A pattern that was made from a text, as that text."""
    plain = re.sub(r"\[([*?[])\]", r"\1", pattern)
    return plain if literally(plain) == pattern else pattern


def standing_of(state: RunState, waits: tuple[Wait, ...]) -> str:
    """Where a run is, in a word or two: what its status alone does not tell."""
    if state.status == "new":
        return "not started"
    if state.status != "running":
        return f"stopped: {state.stopped_by}" if state.stopped_by else state.status
    if state.cancelling:
        return "stopping"
    if state.paused:
        return "paused"
    return "waiting" if waits else "running"
