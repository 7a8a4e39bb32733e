"""Options for what a run may use, and what of them a run that goes on can be given. Not limits."""

from typing import Annotated

import typer

from peritus.cli.loop import notice
from peritus.definitions import LimitOverrides
from peritus.jobs import Raised

Steps = Annotated[int | None, typer.Option(help="Steps the run may take.", min=1, metavar="N")]

Tokens = Annotated[
    int | None,
    typer.Option(help="Tokens the run and its children may use.", min=1, metavar="N"),
]

Budget = Annotated[
    str | None,
    typer.Option(help="US dollars they may spend, as 2.50.", metavar="USD"),
]

ToolCalls = Annotated[
    int | None, typer.Option(help="Tool calls they may make.", min=0, metavar="N")
]

WallTime = Annotated[
    str | None,
    typer.Option(help="Time until the run is stopped, as 90s or 1h30m.", metavar="TIME"),
]

Depth = Annotated[int | None, typer.Option(help="Delegations below the root.", min=0, metavar="N")]

FanOut = Annotated[
    int | None, typer.Option(help="Children of one run at work at once.", min=1, metavar="N")
]

Retries = Annotated[
    int | None, typer.Option(help="Retries of a failed generation.", min=0, metavar="N")
]

Timeout = Annotated[int | None, typer.Option(help="Limit of one generation.", min=1, metavar="MS")]


def raised_of(given: LimitOverrides) -> Raised:
    """What of the given limits a run that goes on gets; what it keeps is told."""
    names = Raised.__annotations__
    kept = [name for name, value in given.items() if value is not None and name not in names]
    if kept:
        notice(f"the run keeps the limits it was started with: {', '.join(sorted(kept))}")
    return Raised(
        steps_max=given.get("steps_max"),
        tokens_max=given.get("tokens_max"),
        money_max=given.get("money_max"),
        tool_calls_max=given.get("tool_calls_max"),
        wall_ms_max=given.get("wall_ms_max"),
    )
