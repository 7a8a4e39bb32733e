"""`peritus pause`: let a run begin nothing new until it is resumed. Not a cancel."""

import typer

from peritus.cli import options
from peritus.cli.deciding import deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.jobs import load_state
from peritus.people import pause


def command(run: options.Run, config: options.Config = None) -> None:
    """Pause a run and all under it: what has begun is finished and recorded, nothing new begins.

    `peritus resume` lets it go on. It can be answered, approved and steered meanwhile.
    """
    raise typer.Exit(run_async(_pause(here(config), run)))


async def _pause(place: Place, run: str) -> Exit:
    async with deciding(place, run) as at:
        state, _ = await load_state(at.link.backbone.log, at.ref)
        await pause(at.send, at.ref)
        already = "was paused already" if state.paused else "is paused"
        notice(f"run {at.ref.run} {already}; it goes on with: peritus resume {at.ref.run}")
    return Exit.COMPLETED
