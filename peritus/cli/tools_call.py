"""`peritus tools call`: one tool, called by hand in a run of its own. Not a way around the rules.

The run is one like any other: policy, sandbox, servers and the log are those of its expert. In the
place of the expert's model, a script asks for the one call.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import orjson
import typer

from domain.content import TextPart
from domain.definition import Definition
from domain.errors import Rejected
from domain.events import ToolCallEnded
from domain.ids import RunRef
from domain.limits import ModelChoice, Price
from peritus.catalogues import resolve
from peritus.cli import options
from peritus.cli.attend import Attendance
from peritus.cli.ending import finish
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, anywhere
from peritus.cli.running import attending
from peritus.cli.screens import Form
from peritus.cli.serving import at_work, leave
from peritus.cli.tools_screen import WithOutput
from peritus.cli.wording import clean
from peritus.definitions import LoadedDefinition, load_definition, parse_variables
from peritus.definitions.report import did_you_mean
from peritus.definitions.toml_text import toml_value
from peritus.discovering import asker
from peritus.feed import stored_events
from peritus.jobs import at_desk, load_state, new_root, start, text_at
from peritus.keys import project_keys
from peritus.people import signed, this_user
from peritus.project import PRIVATE_FOLDER, need_config, operator_of, workspaces_of
from peritus.runtime import Link, open_backbone, open_models
from peritus.tool_rows import ToolRow, tool_rows
from services.loop.models.scripted import PROVIDER as SCRIPTED

SCRIPTS = "by-hand"
"""The folder in a project's state with the scripts of such runs: any worker may go on with one."""

NOTHING_ELSE = frozenset({"none"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be called, and how the answer is to be shown."""

    expert: str
    tool: str
    given: dict[str, str]
    data: dict[str, Any]
    workspace: Path | None
    copy: bool
    no_wait: bool
    as_json: bool


def call_tool(  # noqa: PLR0913 - one parameter an option
    expert: Annotated[str, typer.Argument(metavar="EXPERT", help="The key of an expert.")],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="The tool, as a model knows it.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Arguments, each a text or JSON."),
    ] = None,
    *,
    args: Annotated[
        str | None,
        typer.Option("--args", help="All arguments as JSON; `-` reads them.", metavar="JSON"),
    ] = None,
    config: options.Config = None,
    variables: options.Variables = None,
    env_path: options.EnvPath = None,
    workspace: options.Workspace = None,
    copy: options.Copy = False,
    no_wait: options.NoWait = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value.")] = False,
) -> None:
    """Call one tool of an expert by hand, with everything that a call in a run has.

    Rules that ask or deny do so here, too. What the call does, it does in the workspace; the run is
    in the log, and named at the end.
    """
    data = {} if args is None else _object(options.text_of(args))
    given = _pairs(arguments or [])
    wanted = Wanted(expert, tool, given, data, workspace, copy, no_wait, as_json)
    place = anywhere(config)
    loaded = load_definition(
        need_config(place.project, expert),
        wanted=expert,
        variables=parse_variables(variables),
        variables_open=True,
        operator=operator_of(place.settings),
    )
    loaded.definition.expert(expert)
    for text in loaded.notices:
        notice(text)
    raise typer.Exit(run_async(_call(place, loaded, wanted, env_path)))


async def _call(
    place: Place, loaded: LoadedDefinition, wanted: Wanted, env_path: list[Path] | None
) -> Exit:
    settings, project = place.settings, place.project
    keys = project_keys(settings, project, tuple(env_path) if env_path else loaded.env_paths)
    async with (
        open_backbone(settings, project.state) as link,
        open_models(keys) as models,
        at_work(settings, project, link, models, keys) as (desk, door),
    ):
        ref = new_root(settings.tenant, None)
        _settle(place, ref, wanted)
        ask = asker(link.backbone, ref, loaded.definition)
        definition = await resolve(loaded.definition, loaded.lock, ask, wanted=wanted.expert)
        row = _row(definition, wanted)
        script = _script(project.state / SCRIPTS / f"{ref.run}.toml", row, wanted)
        send = signed(at_desk(desk), this_user("cli"))
        form = Form(as_json=wanted.as_json, types=NOTHING_ELSE)
        attendance = attending(link, send, ref, form, leaves=wanted.no_wait or wanted.as_json)
        if attendance.screen.live:
            attendance.screen = WithOutput(attendance.screen)
        plan = by_hand(definition, wanted.expert, script)
        task = f"Call {wanted.tool} by hand."
        await start(send, link.backbone.blobs, ref, plan, expert=wanted.expert, query=task)
        code = await _told(link, attendance, wanted)
        await leave(door, settings)
        if code not in (Exit.WAITING, Exit.DETACHED):
            script.unlink(missing_ok=True)
        return code


async def _told(link: Link, attendance: Attendance, wanted: Wanted) -> Exit:
    """Attend the run and show what the tool answered; failure where that is an error."""
    ref = attendance.ref
    end = await attendance.watch()
    if end in ("left", "waiting"):
        return await finish(attendance, end)
    state, _ = await load_state(link.backbone.log, ref)
    ended = [
        heard.event
        for heard in await stored_events(link.backbone.log, [ref])
        if isinstance(heard.event, ToolCallEnded)
    ]
    if not ended:
        return await finish(attendance, end)
    answer = ended[0]
    texts = [
        await text_at(link.backbone.blobs, ref.tenant, part.text)
        for part in answer.content
        if isinstance(part, TextPart)
    ]
    files = [part.name for part in answer.content if not isinstance(part, TextPart)]
    if wanted.as_json:
        facts = {
            "run": ref.run,
            "tool": wanted.tool,
            "outcome": answer.outcome,
            "is_error": answer.is_error,
            "text": "\n".join(texts),
            "files": files,
            "duration_ms": answer.duration_ms,
        }
        await Out().write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
    else:
        shown = [*texts, *(f"[file {name}]" for name in files)]
        await Out().write(attendance.screen.note("") + clean("\n".join(shown)) + "\n")
        notice(f"run {ref.run}: {answer.outcome.replace('_', ' ')}")
    failed = answer.is_error or state.status not in ("completed", "running")
    return Exit.FAILED if failed else Exit.COMPLETED


def by_hand(definition: Definition, key: str, script: Path) -> Definition:
    """The definition with a script in the place of one expert's model, and of nothing else."""
    free = Price(input=0, output=0, source="a call by hand")
    expert = definition.expert(key).model_copy(
        update={
            "model": ModelChoice(provider=SCRIPTED, model=str(script), price=free),
            "fallbacks": (),
            "provider_tools": (),
            "provider_skills": (),
            "input_schema": None,
            "output_schema": None,
        }
    )
    return definition.model_copy(update={"experts": {**definition.experts, key: expert}})


def _row(definition: Definition, wanted: Wanted) -> ToolRow:
    rows = {row.name: row for row in tool_rows(definition, wanted.expert)}
    found = rows.get(wanted.tool)
    if found is None:
        hint = did_you_mean(wanted.tool, rows) or f"; it has {', '.join(rows) or 'none'}"
        message = f"expert {wanted.expert!r} has no tool {wanted.tool!r}{hint}"
        raise Rejected("bad_input", message)
    if found.where == "program":
        message = f"{wanted.tool!r} is a tool of the program that registers it: call it there"
        raise Rejected("bad_input", message)
    return found


def _script(path: Path, row: ToolRow, wanted: Wanted) -> Path:
    """Write what is said in the place of a model: the call, then that it is over."""
    arguments = {**wanted.data, **typed(row.parameters, wanted.given)}
    text = toml_value(json.dumps(arguments, ensure_ascii=False))
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    path.write_text(
        f"[[reply]]\n[[reply.call]]\ntool = {toml_value(row.name)}\narguments_text = {text}\n"
        '[[reply]]\ntext = "The tool was called by hand."\n',
        encoding="utf-8",
    )
    return path.resolve()


def typed(schema: Any, given: dict[str, str]) -> dict[str, Any]:  # noqa: ANN401 - a JSON schema
    """Arguments from the command line: JSON, unless the tool wants a text, or it is none."""
    found: dict[str, Any] = {}
    known = cast("dict[str, Any]", schema.get("properties", {}))
    for name, text in given.items():
        of_name = known.get(name)
        wanted = cast("dict[str, Any]", of_name).get("type") if isinstance(of_name, dict) else None
        try:
            found[name] = text if wanted == "string" else json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _pairs(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            options.refuse(f"{word!r} is not NAME=VALUE, such as 'path=notes.txt'")
        if name in found:
            options.refuse(f"{name!r} is given twice")
        found[name] = value
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise Rejected("bad_input", f"--args is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Rejected("bad_input", "--args must be a JSON object")
    return cast("dict[str, Any]", value)


def _settle(place: Place, ref: RunRef, wanted: Wanted) -> None:
    """Write down where the call works."""
    workspaces = workspaces_of(place.project, place.settings)
    folder = wanted.workspace or place.project.workspace
    if wanted.copy:
        notice(f"in {workspaces.copy(ref, folder)}, a copy of {folder.resolve()}")
    else:
        workspaces.assign(ref, folder)
