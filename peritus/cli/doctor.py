"""`peritus doctor`: what was checked and found, a line each. Not the checks."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Place, anywhere
from peritus.doctor import examine

EPILOG = "Exit codes: 0 when nothing is broken, 1 when something is."
MARKS = {"ok": "✓", "note": "·", "broken": "✗"}


def command(
    *,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value a line.")] = False,
) -> None:
    """Check definition, keys, state folder, server, durability and sandbox.

    Keys are reported as present or not; their values are never shown.
    """
    raise typer.Exit(run_async(_doctor(anywhere(config), as_json=as_json)))


async def _doctor(place: Place, *, as_json: bool) -> Exit:
    findings = await examine(place.settings, place.project, with_server=not place.nowhere)
    out = Out()
    for finding in findings:
        if as_json:
            await out.write(orjson.dumps(asdict(finding), option=orjson.OPT_APPEND_NEWLINE))
            continue
        first, *rest = finding.detail.splitlines() or [""]
        await out.write(f"{MARKS[finding.verdict]} {finding.name:<18} {first}\n")
        await out.write("".join(f"{'':<21}{line}\n" for line in rest))
    broken = any(finding.verdict == "broken" for finding in findings)
    return Exit.WRONG if broken else Exit.COMPLETED
