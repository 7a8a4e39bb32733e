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

SoftBudget = Annotated[
    str | None,
    typer.Option(help="US dollars beyond which you are asked first.", metavar="USD"),
]

ToolCalls = Annotated[
    int | None, typer.Option(help="Tool calls they may make.", min=0, metavar="N")
]

WallTime = Annotated[
    str | None,
    typer.Option(
        "--max-time",
        "--wall-time",
        help="Time until the run is stopped, as 90s or 1h30m.",
        metavar="TIME",
    ),
]

Depth = Annotated[int | None, typer.Option(help="Delegations below the root.", min=0, metavar="N")]

FanOut = Annotated[
    int | None,
    typer.Option(
        "--fan-out",
        "--max-fan-out",
        help="Children of one run at work at once.",
        min=1,
        metavar="N",
    ),
]

Retries = Annotated[
    int | None, typer.Option(help="Retries of a failed generation.", min=0, metavar="N")
]

Timeout = Annotated[int | None, typer.Option(help="Limit of one generation.", min=1, metavar="MS")]


FLAGS = {
    "money_soft": "--soft-budget",
    "depth_max": "--max-depth",
    "fan_out_max": "--fan-out",
    "generation_attempts_max": "--max-retries",
    "generation_timeout_ms": "--timeout",
}
"""The options of limits that a run keeps for life."""


def raised_of(given: LimitOverrides) -> Raised:
    """What of the given limits a run that goes on gets; what it keeps is told."""
    names = Raised.__annotations__
    kept = [name for name, value in given.items() if value is not None and name not in names]
    if kept:
        flags = ", ".join(FLAGS.get(name, name) for name in kept)
        notice(f"a run keeps what it was started with, so these change nothing: {flags}")
    return Raised(
        steps_max=given.get("steps_max"),
        tokens_max=given.get("tokens_max"),
        money_max=given.get("money_max"),
        tool_calls_max=given.get("tool_calls_max"),
        wall_ms_max=given.get("wall_ms_max"),
    )
