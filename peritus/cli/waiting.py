"""`peritus waiting`: all that waits for a person, in the project or a job. Not the deciding."""

from typing import Annotated

import orjson
import typer

from domain.ids import RunRef
from peritus.cli import asks, options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Observer, Place, here, observing
from peritus.ids import now_ms
from projections.family import Family, load_family, load_look
from projections.queries import Filters
from projections.waits import Look, wait_json

NOTHING = "nothing waits for a person\n"


def command(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Only what waits in that run and under it."),
    ] = None,
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Show what waits for a person: questions, calls to approve, budgets, paused runs.

    Each with all it is about, and the command lines that answer or decide it.
    """
    raise typer.Exit(run_async(_waiting(here(config), run, as_json=options.wants_json(as_json))))


async def _waiting(place: Place, run: str | None, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        looks = await _looks(observer, run)
        waits = sorted((one for look in looks for one in look.waits), key=lambda one: one.since_ms)
        blobs, out = observer.backbone.blobs, Out()
        for wait in waits:
            if as_json:
                facts = await wait_json(blobs, wait)
                await out.write(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))
                continue
            lines = "".join(f"  $ {line}\n" for line in asks.commands_for(wait))
            await out.write(asks.block(await asks.shown(blobs, wait), now_ms()) + lines + "\n")
        paused = [look for look in looks if look.state.status == "running" and look.state.paused]
        if not as_json:
            await out.write("".join(_paused(look) for look in paused))
            await out.write("" if waits or paused else NOTHING)
    return Exit.COMPLETED


async def _looks(observer: Observer, run: str | None) -> list[Look]:
    """The runs that may wait: the view says which, the log says what for."""
    log = observer.backbone.log
    if run is not None:
        ref = await observer.runs.find(run)
        family: Family = await load_family(log, ref)
        return list(family.under(ref.run))
    refs: list[RunRef] = []
    for status in ("waiting", "paused"):
        refs.extend(row.ref for row in await observer.runs.all(Filters(status=status)))
    return [await load_look(log, ref) for ref in dict.fromkeys(refs)]


def _paused(look: Look) -> str:
    ref = look.state.ref
    return f"{look.state.expert} is paused in run {ref.run}\n  $ peritus resume {ref.run}\n\n"
