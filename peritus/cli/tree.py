"""`peritus tree`: a job's runs, who asked for whom, and what each is at. Not one of them."""

import orjson
import typer

from peritus.cli import asks, options
from peritus.cli.branches import tree_text
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Place, here, observing
from projections.family import load_family


def command(run: options.Run, config: options.Config = None, as_json: options.Json = None) -> None:
    """Show all runs of a job as a tree: what each is at, what it used, what it waits for.

    RUN is any run of the job.
    """
    raise typer.Exit(run_async(_tree(here(config), run, as_json=options.wants_json(as_json))))


async def _tree(place: Place, name: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ports = observer.backbone
        family = await load_family(ports.log, await observer.runs.find(name))
        root = family.root(next(iter(family.looks)))
        waits = [await asks.shown(ports.blobs, wait) for wait in family.waits(root.run)]
    out = Out()
    if as_json:
        members = [family.facts(look.state.ref.run) for look in family.under(root.run)]
        lines = [orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in members]
        await out.write(b"".join(lines))
    else:
        await out.write(tree_text(family, root, waits))
    return Exit.COMPLETED
