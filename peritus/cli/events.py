"""`peritus events`: the events of a run as they are stored, and as they come. Not their meaning."""

from collections.abc import Iterable
from typing import Annotated

import typer

from domain.ids import RunRef
from eventlog.jetstream.tasks import background
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.interrupts import stopped_by_signal
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Observer, Place, here, observing
from peritus.cli.screens import Form, Screen, screen_for
from peritus.feed import Heard, follow_events, stored_events


def command(
    run: options.Run,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    job: Annotated[
        bool, typer.Option("--job", help="Those of the whole job: every run in the tree.")
    ] = False,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Print the events of a run, in order."""
    as_json = options.wants_json(as_json)
    work = _events(here(config), run, follow=follow, whole=job, as_json=as_json)
    raise typer.Exit(run_async(work))


async def _events(place: Place, name: str, *, follow: bool, whole: bool, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(name)
        screen = screen_for(ref, Form(as_json))
        if not follow:
            refs = [row.ref for row in await observer.runs.of_job(ref.job)] if whole else [ref]
            await _write(screen, await stored_events(observer.backbone.log, refs))
            return Exit.COMPLETED
        pattern = RunRef(ref.tenant, ref.job, "*") if whole else ref
        with stopped_by_signal() as stop:
            async with background(_follow(observer, pattern, screen)):
                await stop.wait()
    return Exit.COMPLETED


async def _follow(observer: Observer, pattern: RunRef, screen: Screen) -> None:
    async with follow_events(observer.backbone.log, pattern, after_seq=0) as found:
        async for events in found:
            await _write(screen, events)


async def _write(screen: Screen, events: Iterable[Heard]) -> None:
    out = Out()
    for heard in events:
        await out.write(screen.heard(heard))
