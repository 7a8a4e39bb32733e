"""`peritus cancel`: ask a run to stop, whoever is at work on it. Not the stopping."""

import asyncio
from typing import Annotated

import typer

from peritus.cli import options
from peritus.cli.deciding import Deciding, deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.jobs import cancel, load_state, rest_of

WAIT_S = 60.0
"""How long a run may take to stop before this command leaves it alone, in seconds."""


def command(
    run: options.Run,
    reason: Annotated[str, typer.Option(help="Why; kept in the log.")] = "",
    config: options.Config = None,
) -> None:
    """Ask a run, and everything under it, to stop, and wait until it has."""
    raise typer.Exit(run_async(_cancel(here(config), run, reason)))


async def _cancel(place: Place, name: str, reason: str) -> Exit:
    async with deciding(place, name) as at:
        state, seq = await load_state(at.link.backbone.log, at.ref)
        if state.at_rest:
            notice(f"run {at.ref.run} is at rest already: {state.status}")
            return Exit.COMPLETED
        return await _ask(at, reason, seq)


async def _ask(at: Deciding, reason: str, seq: int) -> Exit:
    ref = at.ref
    await cancel(at.send, ref, reason)
    try:
        async with asyncio.timeout(WAIT_S):
            end = await rest_of(at.link.backbone.log, ref, after_seq=seq)
    except TimeoutError:
        notice(f"run {ref.run} was asked to stop and has not yet; watch it with `peritus show`")
        return Exit.DETACHED
    notice(f"run {ref.run}: {end.event.type.split('.')[1]}")
    return Exit.COMPLETED
