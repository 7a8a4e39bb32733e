"""How events, messages and a whole job read in `peritus log`. Not which of them are chosen."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from domain import events as e
from domain.content import (
    AssistantPart,
    CallPart,
    Message,
    ResultPart,
    TextPart,
    ThinkingPart,
    UserPart,
    text_of,
)
from domain.envelope import event_json
from peritus.cli import asks
from peritus.cli.log_select import Entry
from peritus.cli.people_lines import people_line, said
from peritus.cli.wording import call_line, clean, outcome_line, short, usage_line

REST_CHARS_MAX = 160
TEXT_CHARS_MAX = 4_000
TYPE_WIDTH = 24
DIGEST_CHARS = 8

Calls = Mapping[str, e.ToolCallRequested]


def entry_line(entry: Entry, calls: Calls) -> str:
    """An event in a line: when, whose, in which step, and what."""
    heard = entry.heard
    at = datetime.fromtimestamp(heard.at_ms / 1_000, UTC).strftime("%H:%M:%S.%f")[:-3]
    kind = heard.event.type.rsplit(".v", 1)[0]
    whose = f"{clean(heard.whose.expert)} {heard.ref.run[-6:]}"
    what = _said(heard.event, calls)
    return f"{at}  {whose:<20} {entry.step:>3}  {kind:<{TYPE_WIDTH}} {what}".rstrip()


def _said(event: e.Event, calls: Calls) -> str:
    line = people_line(event, calls)
    if line is not None:
        return line.text
    match event:
        case e.InputReceived(parts=parts):
            return said(parts)
        case e.GenerationCompleted(parts=parts, usage=usage):
            text = short(text_of(parts), REST_CHARS_MAX)
            return "  ".join(part for part in (text, usage_line(usage) if usage else "") if part)
        case e.GenerationFailed(failure=failure) | e.RunFailed(failure=failure):
            return short(f"{failure.kind}: {failure.message}", REST_CHARS_MAX)
        case e.ToolCallRequested(tool=tool, arguments=arguments):
            return call_line(tool, arguments)
        case e.ToolCallEnded(call=name, outcome=outcome):
            tool = calls[name].tool if name in calls else name
            return f"{clean(tool)} {outcome}: {outcome_line(event)}"
        case e.RunCompleted(result=result):
            return short(result, REST_CHARS_MAX) if isinstance(result, str) else ""
        case _:
            return _plainly(event)


def _plainly(event: e.Event) -> str:
    match event:
        case e.RunStarted(expert=expert, definition=definition):
            return f"{clean(expert)}, of definition {definition[:DIGEST_CHARS]}"
        case e.RunForked(expert=expert, source=source, step=step):
            return f"{clean(expert)}, from run {source.run} after step {step}"
        case e.ContextPinned(model=model, tools=tools):
            return f"{model.provider} {clean(model.model)}, {len(tools)} tools"
        case e.GenerationRequested(attempt=attempt, reserved=reserved):
            return f"attempt {attempt}, {asks.tokens(reserved)} reserved"
        case e.DelegationRequested(expert=expert, child=child):
            return f"{clean(expert)} as run {child}"
        case e.DelegationSettled(child=child, status=status):
            return f"run {child} {status}"
        case e.StepEnded():
            return ""
        case _:
            return _rest(event)


def _rest(event: e.Event) -> str:
    """The fields of an event that is told no other way."""
    fields = {name: one for name, one in event_json(event).items() if name not in ("type", "step")}
    return short(json.dumps(fields, ensure_ascii=False), REST_CHARS_MAX)


def whole(entry: Entry) -> str:
    """An event with all its fields."""
    text = json.dumps(event_json(entry.heard.event), indent=2, ensure_ascii=False)
    return "".join(f"    {clean(line)}\n" for line in text.splitlines())


def message_text(message: Message) -> str:
    """A message of a conversation, as the model was told it or said it."""
    lines = [f"── {message.role}", *map(short_part, message.parts)]
    return "\n".join(lines) + "\n"


def short_part(part: UserPart | AssistantPart) -> str:
    """A part of a message; thoughts and files are named, not told."""
    match part:
        case TextPart():
            return clean(text_of((part,)))[:TEXT_CHARS_MAX]
        case CallPart(tool=tool, arguments=arguments):
            return f"▸ {call_line(tool, arguments)}"
        case ResultPart(tool=tool, content=content, is_error=is_error):
            mark = "✗" if is_error else "✓"
            return f"{mark} {clean(tool)}: {clean(text_of(content))[:TEXT_CHARS_MAX]}"
        case ThinkingPart():
            return "(thought)"
        case _:
            return f"[file {clean(part.name)}]"


def counts(found: Iterable[Entry]) -> str:
    """How many events of each type there are."""
    by_type = Counter(entry.heard.event.type for entry in found)
    lines = [f"{number:>6}  {kind}" for kind, number in by_type.most_common()]
    return "\n".join(lines) + "\n"


def spent_line(tokens: int, micro_usd: int, calls: int) -> str:
    """What a job used."""
    paid = f", {asks.money(micro_usd)}" if micro_usd else ""
    return f"{asks.tokens(tokens)}{paid}, {calls} tool calls"
