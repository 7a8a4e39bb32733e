"""`peritus tree`: a job's runs, who asked for whom, and what each is at. Not one of them."""

from dataclasses import asdict

import orjson
import typer

from commands.checkpoints import source_of
from peritus.cli import asks, options
from peritus.cli.branches import tree_text
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Place, here, observing
from projections.family import load_family
from projections.queries import Filters
from projections.rows import RunRow


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
        source = await source_of(ports.log, root)
        members = [family.facts(look.state.ref.run) for look in family.under(root.run)]
        forks = await observer.runs.all(Filters(source_job=root.job))
        waits = [await asks.shown(ports.blobs, wait) for wait in family.waits(root.run)]
    out = Out()
    if as_json:
        for one in members:
            one["forked_from"] = asdict(source) if source and one["run"] == root.run else None
            one["forks"] = [row.run for row in forks if row.source_run == one["run"]]
        lines = [orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in members]
        await out.write(b"".join(lines))
    else:
        head = "" if source is None else f"fork of {source.line.removeprefix('from ')}\n"
        await out.write(head + tree_text(family, root, waits) + "".join(map(_fork_line, forks)))
    return Exit.COMPLETED


def _fork_line(row: RunRow) -> str:
    return f"⑂ {row.run}: a fork of {row.source_run} after step {row.source_step}, {row.status}\n"
