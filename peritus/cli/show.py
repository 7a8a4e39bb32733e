"""`peritus show`: one run, folded from the log. Not the view, which may be behind."""

from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer

from commands.checkpoints import source_of
from commands.comparing import state_facts
from domain.content import text_of
from domain.ids import RunRef
from domain.state import RunState
from peritus.cli import asks, options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Observer, Place, here, observing
from peritus.cli.wording import call_line, clean, short, usage_line
from peritus.jobs import text_at
from projections.family import load_look

OUTCOME_CHARS = 100


def command(
    run: options.Run,
    *,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show a run: where it is, what it used, what it is waiting for and what it answered."""
    raise typer.Exit(run_async(_show(here(config), run, as_json=as_json)))


async def _show(place: Place, name: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(name)
        look = await load_look(observer.backbone.log, ref)
        state, blobs = look.state, observer.backbone.blobs
        waits = [await asks.shown(blobs, wait) for wait in look.waits]
        result = await text_at(observer.backbone.blobs, ref.tenant, state.result)
        children = await _children(observer, ref)
        source = await source_of(observer.backbone.log, ref)
    facts = state_facts(state, result, children)
    facts["forked_from"] = None if source is None else asdict(source)
    facts["waiting"] = [one.wait.name for one in waits]
    out = Out()
    if as_json:
        await out.write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
    else:
        lines = [f"waits    {one.wait.name}: {asks.what(one)}\n" for one in waits]
        forked = "" if source is None else f"forked   {source.line}\n"
        await out.write(forked + text_of_facts(facts, state) + "".join(lines))
    return Exit.COMPLETED


async def _children(observer: Observer, ref: RunRef) -> list[str]:
    rows = await observer.runs.of_job(ref.job)
    return [row.run for row in reversed(rows) if row.parent_run == ref.run]


def text_of_facts(facts: dict[str, Any], state: RunState) -> str:
    """The same for people."""
    model = state.model
    lines = [
        f"run      {state.ref.run}",
        f"expert   {clean(state.expert)}",
        f"status   {state.status}{_held(state)}",
        f"step     {state.step} ({state.steps_left} left)",
        f"model    {model.provider} {clean(model.model)}" if model else "model    none",
        f"usage    {usage_line(state.usage) or 'no tokens'}",
    ]
    if state.money_charged or state.money_left is not None:
        left = "" if state.money_left is None else f" ({asks.money(state.money_left)} left)"
        lines.append(f"money    {asks.money(state.money_charged)}{left}")
    if state.parent:
        lines.append(f"answers  run {state.parent.run}")
    lines.extend(f"child    {child}" for child in facts["children"])
    for call in state.calls.values():
        ended = call.ended
        outcome = "open" if ended is None else ended.outcome
        said = "" if ended is None else f": {short(text_of(ended.content), OUTCOME_CHARS)}"
        lines.append(f"call     {call_line(call.tool, call.arguments)} — {outcome}{said}")
    lines.extend(
        f"todo     {'☑' if item.completed else '☐'} {short(item.title, OUTCOME_CHARS)}"
        for item in state.todos
    )
    if facts["failure"]:
        lines.append(f"failure  {clean(facts['failure'])}")
    if state.stopped_by:
        lines.append(f"stopped  by its limit of {state.stopped_by}")
    if facts["result"]:
        lines.extend(["", clean(facts["result"]).strip()])
    return "\n".join(lines) + "\n"


def _held(state: RunState) -> str:
    paused = ", paused" if state.paused else ""
    return f"{paused}, asked to stop" if state.cancelling else paused
