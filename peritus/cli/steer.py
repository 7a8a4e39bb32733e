"""`peritus steer`: say something to a run that is at work. Not a continue: that is for rest."""

from typing import Annotated

import typer

from peritus.cli import options
from peritus.cli.deciding import deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.people import steer


def command(
    run: options.Run,
    text: Annotated[str, typer.Argument(help="What to say; `-` reads standard input.")],
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Interrupt the reply that is being made.")
    ] = False,
    config: options.Config = None,
) -> None:
    """Say something to a run at work, a delegate's too: it hears it with its next request.

    With --now the reply that is being made is given up, and asked for anew with what you said.
    Calls that have begun are finished first.
    """
    work = _steer(here(config), run, options.text_of(text), now=now)
    raise typer.Exit(run_async(work))


async def _steer(place: Place, run: str, text: str, *, now: bool) -> Exit:
    async with deciding(place, run) as at:
        await steer(at.send, at.ref, text, now=now)
        notice(f"said to run {at.ref.run}")
        await at.tell_rest()
    return Exit.COMPLETED
