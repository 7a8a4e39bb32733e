"""`peritus log`: look through the events of a job: by type, step or expression; or summed up."""

from typing import Annotated

import typer

from peritus.cli import options
from peritus.cli.event_names import event_types
from peritus.cli.log_read import Choice, Form, Scope, Shown, read
from peritus.cli.log_select import expression_test, step_test
from peritus.cli.loop import run_async
from peritus.cli.observing import here

TAKE = 100


def command(  # noqa: PLR0913 - one parameter an option
    *,
    job: Annotated[
        str | None, typer.Option(help="That job; by default the newest.", metavar="ID")
    ] = None,
    run: Annotated[str | None, typer.Option(help="One run alone.", metavar="RUN")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="As of the end of a step: its number with --run or --job, or RUN@STEP.",
            metavar="STEP",
        ),
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="Events of these steps: 5, >5, >=5, <5, <=5 or 1-10.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Events of these types.", metavar="TYPES")
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="What went wrong.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="Tool calls and decisions.")] = False,
    delegations: Annotated[bool, typer.Option("--delegations", help="Delegations.")] = False,
    expression: Annotated[
        str | None,
        typer.Option("--filter", help="Events that meet `.path op value`.", metavar="EXPRESSION"),
    ] = None,
    take: Annotated[
        int, typer.Option(help="So many at most; 0 is all.", min=0, metavar="N")
    ] = TAKE,
    offset: Annotated[int, typer.Option(help="Leave out so many.", min=0, metavar="N")] = 0,
    context: Annotated[
        int, typer.Option(help="Show so many events around each.", min=0, metavar="N")
    ] = 0,
    messages: Annotated[
        bool, typer.Option("--messages", help="What the model was told and said instead.")
    ] = False,
    summary: Annotated[bool, typer.Option("--summary", help="The job summed up instead.")] = False,
    pretty: Annotated[bool, typer.Option("--pretty", help="JSON over several lines.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Events with all fields.")] = False,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Look through the log of a job: its events, chosen by type, step or expression.

    Without any option: the newest job summed up. An expression looks at a field of the event or of
    its line: `.usage.input > 1000`, `.parts[].kind == "call"`, `.run == "one"`. Types are those of
    the documentation, without a version if you like, and perstack's.
    """
    asked = [kind, "tools" if tools else None, "delegations" if delegations else None]
    names = ",".join(name for name in asked if name)
    choice = Choice(
        types=event_types(names) if names else frozenset(),
        errors=errors,
        step=None if step is None else step_test(step),
        expression=None if expression is None else expression_test(expression),
        take=take,
        offset=offset,
        context=context,
    )
    nothing = (job, run, checkpoint) == (None, None, None) and not choice.chosen
    shown: Shown = "messages" if messages else "summary" if summary or nothing else "events"
    if checkpoint is not None and shown == "events" and not choice.chosen:
        shown = "state"
    form = Form(shown, pretty or options.wants_json(as_json), pretty, verbose)
    work = read(here(config), Scope(job, run, checkpoint), choice, form)
    raise typer.Exit(run_async(work))
