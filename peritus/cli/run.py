"""`peritus run`: start an expert or go on with it, and show it to its end. Not the loop itself."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from peritus.cli import limits, options
from peritus.cli.event_names import event_types
from peritus.cli.exits import epilog
from peritus.cli.loop import log_to_stderr, notice, run_async
from peritus.cli.running import Asked, run
from peritus.cli.screens import Form
from peritus.cli.tasks import Task
from peritus.definitions import (
    LimitOverrides,
    load_definition,
    parse_duration,
    parse_reasoning,
    parse_usd,
    parse_variables,
)
from peritus.keys import project_keys
from peritus.project import find_project, need_config, operator_of
from peritus.settings import load_settings

EPILOG = epilog()


def command(  # noqa: PLR0913 - one parameter an option
    expert: Annotated[str, typer.Argument(help="The key of the expert in the definition.")],
    query: Annotated[
        str, typer.Argument(help="What to tell it; `-` reads standard input.", metavar="QUERY")
    ] = "",
    *,
    data: options.Input = None,
    go_on: options.Continue = False,
    continue_job: options.ContinueJob = None,
    answers: options.Answers = False,
    job: options.Job = None,
    model: options.Model = None,
    provider: options.Provider = None,
    max_steps: limits.Steps = None,
    max_tokens: limits.Tokens = None,
    budget: limits.Budget = None,
    soft_budget: limits.SoftBudget = None,
    max_tool_calls: limits.ToolCalls = None,
    wall_time: limits.WallTime = None,
    max_depth: limits.Depth = None,
    max_fan_out: limits.FanOut = None,
    max_retries: limits.Retries = None,
    timeout: limits.Timeout = None,
    reasoning_budget: options.Reasoning = None,
    workspace: options.Workspace = None,
    copy: options.Copy = False,
    variables: options.Variables = None,
    config: options.Config = None,
    env_path: options.EnvPath = None,
    lenient: options.Lenient = False,
    no_wait: options.NoWait = False,
    types: options.Types = None,
    verbose: options.Verbose = False,
    as_json: options.Json = None,
) -> None:
    """Run an expert, or go on with its newest run, and show it live, with all it delegates.

    Prints one JSON event a line when standard output is no terminal. On one, what waits for you is
    asked right there. Ctrl-C stops the run cleanly; pressed again it leaves the run alone, and
    `peritus resume` takes it up again.
    """
    form = _form(as_json, types, verbose=verbose)
    given = LimitOverrides(
        steps_max=max_steps,
        tokens_max=max_tokens,
        money_max=parse_usd(budget),
        money_soft=parse_usd(soft_budget),
        tool_calls_max=max_tool_calls,
        wall_ms_max=parse_duration(wall_time),
        depth_max=max_depth,
        fan_out_max=max_fan_out,
        generation_attempts_max=None if max_retries is None else max_retries + 1,
        generation_timeout_ms=timeout,
    )
    if continue_job is not None and job is not None:
        options.refuse("--continue-job names the job; leave out --job")
    task = Task(query, data, go_on=go_on or continue_job is not None, answers=answers)
    asked = Asked(expert, task, continue_job or job, workspace, copy, given, no_wait, form)
    wish = Wish(provider, model, reasoning_budget, variables, lenient)
    raise typer.Exit(begin(asked, wish, config, env_path))


class Wish(NamedTuple):
    """What is asked of the definition, above the file."""

    provider: str | None
    model: str | None
    reasoning: str | None
    variables: list[str] | None
    lenient: bool


def begin(asked: Asked, wish: Wish, config: Path | None, env_path: list[Path] | None) -> int:
    """Start it, attend it, and say how it ended: the exit code."""
    settings = load_settings()
    louder = asked.form.verbose and settings.log_level != "debug"
    log_to_stderr("info" if louder else settings.log_level)
    project = find_project(Path.cwd(), settings, config)
    loaded = load_definition(
        need_config(project, asked.expert),
        wanted=asked.expert,
        provider=wish.provider,
        model=wish.model,
        reasoning=None if wish.reasoning is None else parse_reasoning(wish.reasoning),
        lenient=wish.lenient,
        variables=parse_variables(wish.variables),
        operator=operator_of(settings),
        **asked.limits,
    )
    loaded.definition.expert(asked.expert)
    for text in loaded.notices:
        notice(text)
    keys = project_keys(settings, project, tuple(env_path) if env_path else loaded.env_paths)
    return run_async(run(settings, project, loaded, keys, asked))


def _form(as_json: bool | None, types: str | None, *, verbose: bool) -> Form:  # noqa: FBT001
    if types is None:
        return Form(options.wants_json(as_json), verbose=verbose)
    if as_json is False:
        options.refuse("--filter is about JSON lines; leave out --no-json")
    return Form(as_json=True, types=event_types(types), verbose=verbose)
