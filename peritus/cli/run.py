"""`peritus run`: start an expert or go on with it, and show it to its end. Not the loop itself."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from domain.definition import Definition
from domain.errors import Rejected
from domain.ids import RunRef
from domain.state import RunState
from peritus.cli import limits, options
from peritus.cli.attend import Attendance
from peritus.cli.ending import finish
from peritus.cli.exits import Exit, epilog
from peritus.cli.loop import Out, log_to_stderr, notice, run_async
from peritus.cli.screens import screen_for
from peritus.cli.serving import at_work, leave, tell_others
from peritus.definitions import (
    LimitOverrides,
    load_definition,
    parse_duration,
    parse_reasoning,
    parse_usd,
    parse_variables,
)
from peritus.jobs import Send, at_desk, load_state, new_root, say, start
from peritus.keys import Keys, project_keys
from peritus.lookup import Runs, views_path
from peritus.project import Project, find_project, need_config, operator_of, workspaces_of
from peritus.runtime import Link, open_backbone, open_models
from peritus.settings import Settings, load_settings

EPILOG = epilog()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    expert: str
    query: str
    go_on: bool
    job: str | None
    workspace: Path | None
    copy: bool
    limits: LimitOverrides
    as_json: bool


def command(  # noqa: PLR0913 - one parameter an option
    expert: Annotated[str, typer.Argument(help="The key of the expert in the definition.")],
    query: Annotated[str, typer.Argument(help="What to tell it; `-` reads standard input.")],
    *,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on with the expert's newest run, or --job's.")
    ] = False,
    job: Annotated[
        str | None, typer.Option("--job", "--job-id", help="The id of the job.", metavar="ID")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model, above the definition.")] = None,
    provider: Annotated[str | None, typer.Option(help="The provider, above the file.")] = None,
    max_steps: limits.Steps = None,
    max_tokens: limits.Tokens = None,
    budget: limits.Budget = None,
    max_tool_calls: limits.ToolCalls = None,
    wall_time: limits.WallTime = None,
    max_depth: limits.Depth = None,
    max_fan_out: limits.FanOut = None,
    max_retries: limits.Retries = None,
    timeout: limits.Timeout = None,
    reasoning_budget: options.Reasoning = None,
    workspace: options.Workspace = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Work in a copy of that folder: it stays as it is.")
    ] = False,
    variables: options.Variables = None,
    config: options.Config = None,
    env_path: options.EnvPath = None,
    lenient: options.Lenient = False,
    as_json: options.Json = None,
) -> None:
    """Run an expert, or go on with its newest run, and show it live.

    Prints one JSON event a line when standard output is no terminal. Ctrl-C stops the run cleanly;
    pressed again it leaves the run alone, and `peritus resume` takes it up again.
    """
    settings = load_settings()
    log_to_stderr(settings.log_level)
    project = find_project(Path.cwd(), settings, config)
    given = LimitOverrides(
        steps_max=max_steps,
        tokens_max=max_tokens,
        money_max=parse_usd(budget),
        tool_calls_max=max_tool_calls,
        wall_ms_max=parse_duration(wall_time),
        depth_max=max_depth,
        fan_out_max=max_fan_out,
        generation_attempts_max=None if max_retries is None else max_retries + 1,
        generation_timeout_ms=timeout,
    )
    loaded = load_definition(
        need_config(project, expert),
        wanted=expert,
        provider=provider,
        model=model,
        reasoning=None if reasoning_budget is None else parse_reasoning(reasoning_budget),
        lenient=lenient,
        variables=parse_variables(variables),
        operator=operator_of(settings),
        **given,
    )
    loaded.definition.expert(expert)
    for text in loaded.notices:
        notice(text)
    asked = Asked(
        expert, _query(query), go_on, job, workspace, copy, given, options.wants_json(as_json)
    )
    keys = project_keys(settings, project, tuple(env_path) if env_path else loaded.env_paths)
    raise typer.Exit(run_async(_run(settings, project, loaded.definition, keys, asked)))


def _query(text: str) -> str:
    query = sys.stdin.read() if text == "-" else text
    if not query.strip():
        raise Rejected("bad_query", "the query is empty; say what the expert is to do")
    return query


async def _run(
    settings: Settings, project: Project, definition: Definition, keys: Keys, asked: Asked
) -> Exit:
    async with open_backbone(settings, project.state) as link, open_models(keys) as models:
        ref = await _target(settings, project, link, asked)
        if asked.go_on:
            state, _ = await load_state(link.backbone.log, ref)
            _check_what_stays(state, definition, asked.expert)
        _settle_workspace(settings, project, ref, asked)
        async with at_work(settings, project, link, models, keys) as (desk, door):
            attendance = await _begin(link, at_desk(desk), ref, definition, asked)
            await tell_others(link, ref)
            end = await attendance.watch()
            code = await finish(attendance, end)
            if end is not None:
                await leave(door, settings)
            return code


async def _target(settings: Settings, project: Project, link: Link, asked: Asked) -> RunRef:
    if not asked.go_on or asked.job is not None:
        return new_root(settings.tenant, asked.job)
    runs = Runs(link.backbone.log, settings.tenant, views_path(settings, project))
    return await runs.newest_root(asked.expert)


def _check_what_stays(state: RunState, definition: Definition, expert: str) -> None:
    """A run keeps its expert and its model for life: refuse another one, and do not hide another.

    Raises:
        Rejected: the run is one of another expert.
    """
    if state.expert != expert:
        message = f"job {state.ref.job!r} is one of expert {state.expert!r}, not of {expert!r}"
        raise Rejected("nothing_to_continue", message)
    kept, wanted = state.model, definition.expert(expert).model
    if kept is not None and (kept.provider, kept.model) != (wanted.provider, wanted.model):
        notice(f"the run keeps the model it was started with: {kept.provider} {kept.model}")


def _settle_workspace(settings: Settings, project: Project, ref: RunRef, asked: Asked) -> None:
    """Write down where the job works, and say so."""
    workspaces = workspaces_of(project, settings)
    known = workspaces.known(ref)
    if asked.go_on and known is None and workspaces.kind(ref) == "copied":
        notice(f"run {ref.run} in its copy {workspaces.own(ref)}")
    elif asked.copy:
        wanted = asked.workspace or project.workspace
        notice(f"run {ref.run} in {workspaces.copy(ref, wanted)}, a copy of {wanted.resolve()}")
    else:
        wanted = asked.workspace or known or project.workspace
        notice(f"run {ref.run} in workspace {workspaces.assign(ref, wanted)}")


async def _begin(
    link: Link, send: Send, ref: RunRef, definition: Definition, asked: Asked
) -> Attendance:
    """Start or continue the run, and attend it from there."""
    attendance = Attendance(link.backbone, send, ref, screen_for(ref, as_json=asked.as_json), Out())
    if asked.go_on:
        state, attendance.after_seq = await load_state(link.backbone.log, ref)
        attendance.after_version = state.version
        await attendance.recall()
        await say(send, ref, asked.query, **limits.raised_of(asked.limits))
    else:
        blobs = link.backbone.blobs
        await start(send, blobs, ref, definition, expert=asked.expert, query=asked.query)
    return attendance
