"""`peritus checkpoints`: the ends of a run's steps, one of them, or what two differ in."""

from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer

from commands.checkpoints import Checkpoint, checkpoints_of
from commands.comparing import At, compare, lines_of, run_at, state_facts
from domain.errors import Rejected
from domain.ids import RunRef
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.files import change_lines
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Observer, Place, here, observing
from peritus.cli.show import text_of_facts
from peritus.cli.wording import clean, columns, duration, short
from peritus.files import Files
from peritus.ids import now_ms
from peritus.project import workspaces_of

SAID_CHARS = 60


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
    return await run_at(observer.backbone.log, ref, int(step))


async def _show(place: Place, name: str, step: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        at = await _at(observer, await observer.runs.find(name), step)
    messages = at.messages
    out = Out()
    if as_json:
        facts: dict[str, Any] = {
            "checkpoint": asdict(at.point),
            "state": state_facts(at.state, "", []),
            "messages": [message.model_dump(mode="json") for message in messages],
        }
        await out.write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
        return Exit.COMPLETED
    point = at.point
    await out.write(f"step {point.step} of run {point.run}, version {point.version}\n\n")
    await out.write(text_of_facts(state_facts(at.state, "", []), at.state) + "\n")
    await out.write("".join(f"{line}\n" for line in lines_of(messages)))
    return Exit.COMPLETED


async def _diff(place: Place, name: str, words: tuple[str, str], *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(name)
        first, second = [await _at(observer, ref, word) for word in words]
        found = compare(first, second)
        files = await _file_changes(place, observer, first, second)
    out = Out()
    if as_json:
        facts = {"state": found.state, "messages": found.messages, "files": files}
        await out.write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
        return Exit.COMPLETED
    text = [
        f"{key:<10} {short(str(was), SAID_CHARS)} -> {short(str(now), SAID_CHARS)}"
        for key, (was, now) in found.state.items()
    ]
    told = found.messages
    text += ["", "messages:", *told] if told else ["", "the same messages"]
    text += ["", "files:", *files] if files else []
    await out.write("".join(f"{line}\n" for line in text))
    return Exit.COMPLETED


async def _file_changes(place: Place, observer: Observer, first: At, second: At) -> list[str]:
    """What differs in the files, as far as snapshots say."""
    workspaces = workspaces_of(place.project, place.settings)

    def files(at: At) -> Files:
        return Files(observer.backbone, workspaces, at.owner)

    try:
        async with (
            files(first).version(first.point.step) as before,
            files(second).version(second.point.step) as after,
        ):
            return [line.rstrip("\n") for line in await change_lines(before, after)]
    except Rejected as error:
        notice(f"files are not compared: {error.message}")
        return []
