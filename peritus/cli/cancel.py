"""`peritus cancel`: ask a run to stop, whoever is at work on it. Not the stopping."""

import asyncio
from typing import Annotated

import typer

from domain.ids import RunRef
from domain.prompt import ModelRequest
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.door import Door
from peritus.jobs import Send, at_desk, by_request, cancel, load_state, rest_of
from peritus.lookup import Runs, views_path
from peritus.runtime import Link, open_backbone, worker_parts, working
from services.loop.models.port import ModelFailure, ModelReply
from services.worker.epoch import Epoch, proven_dead, this_epoch
from services.worker.signs import Sign

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
    settings, project = place.settings, place.project
    async with open_backbone(settings, project.state) as link:
        log = link.backbone.log
        ref = await Runs(log, settings.tenant, views_path(settings, project)).find(name)
        state, seq = await load_state(log, ref)
        if state.at_rest:
            notice(f"run {ref.run} is at rest already: {state.status}")
            return Exit.COMPLETED
        if await _somebody_decides(link):
            return await _ask(link, by_request(link.backbone), ref, reason, seq)
        # Nobody is there to settle it, so this process decides; it executes nothing itself.
        door = Door()
        parts = await worker_parts(
            settings,
            link,
            door,
            generate=_nothing,
            toolboxes={},
            only=lambda one: one.job == ref.job,
        )
        door.close()
        async with working(parts) as desk:
            return await _ask(link, at_desk(desk), ref, reason, seq)


async def _ask(link: Link, send: Send, ref: RunRef, reason: str, seq: int) -> Exit:
    await cancel(send, ref, reason)
    try:
        async with asyncio.timeout(WAIT_S):
            end = await rest_of(link.backbone.log, ref, after_seq=seq)
    except TimeoutError:
        notice(f"run {ref.run} was asked to stop and has not yet; watch it with `peritus show`")
        return Exit.DETACHED
    notice(f"run {ref.run}: {end.event.type.split('.')[1]}")
    return Exit.COMPLETED


async def _somebody_decides(link: Link) -> bool:
    """Whether a loop service lives that will answer; a server of one's own is taken to have one."""
    if link.endpoint is None:
        return True
    here_now = this_epoch()
    for name, data in (await link.backbone.leases.live()).items():
        epoch = Epoch.parse(name)
        dead = epoch is not None and proven_dead(epoch, here_now)
        if not dead and "loop" in Sign.model_validate_json(data).services:
            return True
    return False


async def _nothing(request: ModelRequest, on_delta: object) -> ModelReply:
    del request, on_delta
    raise ModelFailure(kind="overloaded", message="this process only cancels")
