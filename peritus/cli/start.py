"""`peritus start`: choose an expert and say what to do, at a terminal. From there it is a run."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from domain.topology import scope_of
from peritus.cli import limits, options
from peritus.cli.exits import epilog
from peritus.cli.prompting import person_there
from peritus.cli.run import Wish, begin
from peritus.cli.running import Asked
from peritus.cli.screens import Form
from peritus.cli.tasks import Task
from peritus.cli.wording import clean, short
from peritus.definitions import LimitOverrides, load_definition, parse_usd
from peritus.definitions.shipped import shipped_experts
from peritus.project import Project, find_project, need_config, operator_of
from peritus.settings import Settings, load_settings

EPILOG = epilog()
DESCRIPTION_CHARS_MAX = 80


class Choice(NamedTuple):
    """An expert that a person may start."""

    key: str
    description: str


def command(  # noqa: PLR0913 - one parameter an option
    expert: Annotated[
        str, typer.Argument(help="The key of the expert; asked for when it is left out.")
    ] = "",
    query: Annotated[
        str, typer.Argument(help="What to tell it; asked for when it is left out.")
    ] = "",
    *,
    provider: options.Provider = None,
    model: options.Model = None,
    budget: limits.Budget = None,
    workspace: options.Workspace = None,
    copy: options.Copy = False,
    variables: options.Variables = None,
    config: options.Config = None,
    env_path: options.EnvPath = None,
) -> None:
    """Start an expert as a person would: what is not given is asked for, and output is text.

    The experts are the coordinators of the project and those that come with Peritus.
    """
    if not (expert and query) and not person_there():
        options.refuse("nobody can be asked here: give both, peritus start EXPERT QUERY")
    settings = load_settings()
    if not expert:
        project = find_project(Path.cwd(), settings, config)
        expert = _chosen(choices_of(project, settings))
    if not query:
        query = typer.prompt(f"What is {expert} to do?")
    task = Task(query, None, go_on=False, answers=False)
    given = LimitOverrides(money_max=parse_usd(budget))
    form = Form(as_json=False)
    asked = Asked(expert, task, None, workspace, copy, given, leaves=False, form=form)
    wish = Wish(provider, model, None, variables, lenient=False)
    raise typer.Exit(begin(asked, wish, config, env_path))


def choices_of(project: Project, settings: Settings) -> list[Choice]:
    """Whom a person may start: the coordinators of the project, then those that are shipped.

    Raises:
        DefinitionError: the project's definition is wrong.
    """
    shipped = shipped_experts()
    found: dict[str, Choice] = {}
    for name in shipped:
        loaded = load_definition(
            need_config(project, name),
            wanted=name,
            variables_open=True,
            operator=operator_of(settings),
        )
        for key, expert in loaded.definition.experts.items():
            if not scope_of(key):
                found[key] = Choice(key, expert.description)
    return sorted(found.values(), key=lambda one: (one.key in shipped, one.key))


def _chosen(choices: list[Choice]) -> str:
    for number, one in enumerate(choices, start=1):
        said = short(one.description, DESCRIPTION_CHARS_MAX)
        typer.echo(f"{number:>3}  {clean(one.key)}  {said}")
    while True:
        key = pick(choices, typer.prompt("Which expert?"))
        if key is not None:
            return key
        typer.echo(f"say a number from 1 to {len(choices)}, or a key")


def pick(choices: list[Choice], answer: str) -> str | None:
    """The expert that an answer means: by number, or by key; None if it means none."""
    said = answer.strip()
    if said.isdecimal():
        return choices[int(said) - 1].key if 1 <= int(said) <= len(choices) else None
    return next((one.key for one in choices if one.key == said), None)
