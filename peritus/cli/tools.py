"""`peritus tools`: what an expert can call, and where each call leads. Not a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from typer.core import TyperGroup

from domain.definition import Definition
from peritus.catalogues import resolve
from peritus.cli import options
from peritus.cli.asking_servers import asking_servers
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, anywhere
from peritus.cli.tools_call import call_tool
from peritus.cli.tools_login import log_in, log_out
from peritus.cli.wording import clean, short
from peritus.definitions import LoadedDefinition, load_definition, parse_variables
from peritus.project import need_config, operator_of
from peritus.rules import operator_rules
from peritus.tool_rows import ToolRow, tool_rows, unknown_servers

DESCRIPTION_CHARS_MAX = 100
LIST = "list"

Expert = Annotated[str, typer.Argument(metavar="EXPERT", help="The key of an expert.")]


class ListsByDefault(TyperGroup):
    """`peritus tools EXPERT` is short for `peritus tools list EXPERT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own
        """Put the name of the command before what belongs to it."""
        own = {*self.commands, *ctx.help_option_names}
        if args and args[0] not in own:
            args = [LIST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ListsByDefault,
    no_args_is_help=True,
    help="Show the tools of an expert: `peritus tools EXPERT`. Or try one by hand.",
)
app.command("call", context_settings={"allow_interspersed_args": True})(call_tool)
app.command("login")(log_in)
app.command("logout")(log_out)


@app.command(LIST, epilog="`peritus tools EXPERT` does the same.")
def list_tools(
    expert: Expert,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="With whole descriptions, and the JSON schemas.")
    ] = False,
    config: options.Config = None,
    variables: options.Variables = None,
    lenient: options.Lenient = False,
    env_path: options.EnvPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value.")] = False,
) -> None:
    """Show every tool of an expert: its name, its skill, where it runs, what rules say of it.

    Servers that no `perstack.lock` tells of are started and asked.
    """
    place = anywhere(config)
    loaded = load_definition(
        need_config(place.project, expert),
        wanted=expert,
        lenient=lenient,
        variables=parse_variables(variables),
        variables_open=True,
        operator=operator_of(place.settings),
    )
    loaded.definition.expert(expert)
    definition = _known(place, loaded, expert, env_path)
    rows = tool_rows(definition, expert, operator_rules(place.settings.policy_file))
    if as_json:
        facts: list[dict[str, Any]] = [row.facts() for row in rows]
        typer.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        return
    for text in loaded.notices:
        notice(text)
    for line in lines_of(rows, schema=schema):
        typer.echo(line)


def _known(
    place: Place, loaded: LoadedDefinition, expert: str, env_path: list[Path] | None
) -> Definition:
    """The definition with what the servers of one expert offer."""
    definition = loaded.definition
    alone = definition.model_copy(update={"experts": {expert: definition.expert(expert)}})
    unknown = list(unknown_servers(definition.expert(expert)))
    if not unknown:
        return definition
    notice(f"asking {', '.join(unknown)}: `peritus lock` would keep the answer")
    files = tuple(env_path) if env_path else loaded.env_paths

    async def found() -> Definition:
        async with asking_servers(place, definition, files) as discover:
            return await resolve(alone, loaded.lock, discover)

    experts = {**definition.experts, **run_async(found()).experts}
    return definition.model_copy(update={"experts": experts})


def lines_of(rows: Sequence[ToolRow], *, schema: bool = False) -> Iterator[str]:
    """The tools as a table for people, with a line about each."""
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row, cell in zip(rows, cells, strict=True):
        padded = (f"{text:<{width}}" for text, width in zip(cell, widths, strict=True))
        yield "  ".join(padded).rstrip()
        if schema:
            yield from (f"    {line}" for line in clean(row.description).splitlines())
            text = orjson.dumps(row.parameters, option=orjson.OPT_INDENT_2).decode()
            yield from (f"    {line}" for line in clean(text).splitlines())
        elif row.description:
            yield f"    {short(row.description, DESCRIPTION_CHARS_MAX)}"


def _cells(row: ToolRow) -> tuple[str, ...]:
    skill = f"{row.skill}: {row.of_server}" if row.of_server else row.skill
    where = f"{row.where} {row.expert}" if row.expert else row.where
    safety = row.safety.replace("_", " ")
    return row.name, clean(skill), clean(where), safety, str(row.ruling)
