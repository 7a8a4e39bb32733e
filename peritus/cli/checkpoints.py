"""`peritus checkpoints`: the ends of a run's steps, one of them, or what two differ in."""

import difflib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, NamedTuple

import orjson
import typer

from commands.checkpoints import Checkpoint, at_step, checkpoints_of, messages_at, state_at
from domain.content import (
    AssistantMessage,
    CallPart,
    Message,
    ResultPart,
    TextPart,
    text_of,
)
from domain.errors import Rejected
from domain.ids import RunRef
from domain.state import RunState
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.files import change_lines
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Observer, Place, here, observing
from peritus.cli.show import facts_of, text_of_facts
from peritus.cli.wording import call_line, clean, columns, duration, short
from peritus.files import Files
from peritus.ids import now_ms
from peritus.project import workspaces_of

SAID_CHARS = 60
LINE_CHARS = 200


def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[show|diff] RUN [STEP] [STEP]",
            help="A run alone lists its checkpoints; a STEP may be RUN@STEP of another run.",
        ),
    ],
    *,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one value a line.")] = False,
) -> None:
    """List the checkpoints of a run, show one, or compare two: messages, state and files.

    A fork has those of its source, too, up to where it was forked. Step 0 is the beginning. Fork
    from one with `peritus fork RUN --from STEP`.
    """
    place = here(config)
    match words:
        case ["show", run, step]:
            work = _show(place, run, step, as_json=as_json)
        case ["diff", run, first, second]:
            work = _diff(place, run, (first, second), as_json=as_json)
        case [run] if run not in ("show", "diff"):
            work = _list(place, run, as_json=as_json)
        case _:
            options.refuse("say: RUN, or show RUN STEP, or diff RUN STEP STEP")
    raise typer.Exit(run_async(work))


class At(NamedTuple):
    """A run at one of its checkpoints. `ref` is the run that was asked about."""

    ref: RunRef
    point: Checkpoint
    state: RunState


async def _list(place: Place, name: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(name)
        found = await checkpoints_of(observer.backbone.log, ref)
    out = Out()
    if as_json:
        lines = [orjson.dumps(asdict(one), option=orjson.OPT_APPEND_NEWLINE) for one in found]
        await out.write(b"".join(lines))
    else:
        await out.write(table(found, ref.run, now_ms()))
    return Exit.COMPLETED


def table(found: list[Checkpoint], run: str, at_ms: int) -> str:
    """The checkpoints in columns; the last one names the run where that is another."""
    rows: list[tuple[str, ...]] = [("STEP", "VERSION", "AGE", "TOKENS", "FILES", "CALLS", "SAID")]
    for one in found:
        said = short(one.said, SAID_CHARS) if one.step else "the beginning"
        whose = "" if one.run == run else f"  (run {one.run})"
        rows.append(
            (
                str(one.step),
                str(one.version),
                duration(max(0, at_ms - one.at_ms)),
                f"{one.tokens:,}",
                "stored" if one.snapshot else "",
                clean(", ".join(one.tools)),
                said + whose,
            )
        )
    return columns(rows)


async def _at(observer: Observer, ref: RunRef, word: str) -> At:
    """The run at a step, or another run at one of its own."""
    name, _, step = word.rpartition("@")
    if name:
        ref = await observer.runs.find(name)
    if not (step.isascii() and step.isdecimal()):
        raise Rejected("no_such_step", f"{word!r} is no step: give a number, or RUN@NUMBER")
    log = observer.backbone.log
    point = at_step(await checkpoints_of(log, ref), int(step), ref.run)
    return At(ref, point, await state_at(log, ref, point))


async def _show(place: Place, name: str, step: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        at = await _at(observer, await observer.runs.find(name), step)
    messages = messages_at(at.state)
    out = Out()
    if as_json:
        facts: dict[str, Any] = {
            "checkpoint": asdict(at.point),
            "state": facts_of(at.state, "", []),
            "messages": [message.model_dump(mode="json") for message in messages],
        }
        await out.write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
        return Exit.COMPLETED
    point = at.point
    await out.write(f"step {point.step} of run {point.run}, version {point.version}\n\n")
    await out.write(text_of_facts(facts_of(at.state, "", []), at.state) + "\n")
    await out.write("".join(f"{line}\n" for line in _told(messages)))
    return Exit.COMPLETED


async def _diff(place: Place, name: str, words: tuple[str, str], *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(name)
        first, second = [await _at(observer, ref, word) for word in words]
        states = [_summary(one.state) for one in (first, second)]
        changed = {
            key: [states[0][key], states[1][key]]
            for key in states[0]
            if states[0][key] != states[1][key]
        }
        told, told_then = (list(_told(messages_at(one.state))) for one in (first, second))
        files = await _file_changes(place, observer, first, second)
    lines = list(difflib.unified_diff(told, told_then, lineterm="", n=1))[2:]
    out = Out()
    if as_json:
        facts = {"state": changed, "messages": lines, "files": files}
        await out.write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
        return Exit.COMPLETED
    text = [
        f"{key:<10} {short(str(was), SAID_CHARS)} -> {short(str(now), SAID_CHARS)}"
        for key, (was, now) in changed.items()
    ]
    text += ["", "messages:", *lines] if lines else ["", "the same messages"]
    text += ["", "files:", *files] if files else []
    await out.write("".join(f"{line}\n" for line in text))
    return Exit.COMPLETED


def _summary(state: RunState) -> dict[str, Any]:
    """What of a state is compared."""
    return {
        "step": state.step,
        "model": f"{state.model.provider} {state.model.model}" if state.model else "",
        "definition": state.definition[:12],
        "tokens": state.tokens_charged,
        "micro_usd": state.money_charged,
        "calls": {
            name: one.ended.outcome if one.ended else "open" for name, one in state.calls.items()
        },
        "todos": [f"{'x' if one.completed else ' '} {one.title}" for one in state.todos],
        "paused": state.paused,
    }


async def _file_changes(place: Place, observer: Observer, first: At, second: At) -> list[str]:
    """What differs in the files, as far as snapshots say."""
    workspaces = workspaces_of(place.project, place.settings)

    def files(at: At) -> Files:
        return Files(observer.backbone, workspaces, _owner(at))

    try:
        async with (
            files(first).version(first.point.step) as before,
            files(second).version(second.point.step) as after,
        ):
            return [line.rstrip("\n") for line in await change_lines(before, after)]
    except Rejected as error:
        notice(f"files are not compared: {error.message}")
        return []


def _owner(at: At) -> RunRef:
    return RunRef(at.ref.tenant, at.point.job, at.point.run)


def _told(messages: list[Message]) -> Iterator[str]:
    """Messages as lines, each part short enough to compare."""
    for message in messages:
        who = "model" if isinstance(message, AssistantMessage) else "told"
        for part in message.parts:
            match part:
                case TextPart(text=str() as text):
                    yield f"{who}: {short(text, LINE_CHARS)}"
                case CallPart(tool=tool, arguments=arguments):
                    yield f"{who}: calls {call_line(tool, arguments)}"
                case ResultPart(tool=tool, content=content):
                    yield f"result of {clean(tool)}: {short(text_of(content), LINE_CHARS)}"
                case _:
                    yield f"{who}: ({part.kind})"
