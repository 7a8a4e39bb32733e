"""`peritus replay`: check a run against its log. Not the checking."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from commands.past import fork_in, read_past
from domain.decisions.deletion import gone
from domain.envelope import tombstone_in
from domain.errors import IntegrityViolated, NoSuchRun
from domain.state import RunState
from eventlog.port import Backbone, Stored
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, run_async
from peritus.cli.observing import Place, here, observing
from peritus.replay import Check, GetBlob, ReplayReport, Verdict, replay

EPILOG = "Exit codes: 0 when every request is verified, 1 when one is not."
MARKS: Mapping[Verdict, str] = {"verified": "✓", "differs": "✗", "not comparable": "?"}


def command(
    run: options.Run,
    *,
    config: options.Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value a line.")] = False,
) -> None:
    """Check that every request of a run follows from the log, byte for byte.

    The run is folded again from its stored events, with no model asked. At each generation, and at
    each call of the model for a tool, the request is rendered anew and compared with what was
    recorded before the call was made.
    """
    raise typer.Exit(run_async(_replay(here(config), run, as_json=as_json)))


async def _replay(place: Place, name: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(name)
        stored = await observer.backbone.log.load(ref)
        if not stored:
            raise NoSuchRun(name)
        if tombstone_in(stored[-1].data):
            raise gone(ref.job)
        head = await observer.runs.head_of(ref, stored[-1].seq)
        report = await replay(
            [item.data for item in stored],
            blobs_of(observer.backbone, ref.tenant),
            head=head,
            past=await _past(observer.backbone, stored),
        )
    out = Out()
    await out.write("".join(_json(check) if as_json else _line(check) for check in report.checks))
    if not as_json:
        await out.write(_summary(ref.run, report))
    return Exit.COMPLETED if report.verified else Exit.WRONG


async def _past(backbone: Backbone, stored: list[Stored]) -> RunState | None:
    """What a fork begins with, folded from the log of its source."""
    forked = fork_in(stored)
    if forked is None:
        return None
    tenant = stored[0].ref.tenant
    return (await read_past(backbone.log, tenant, forked.source, forked.results)).state


def blobs_of(backbone: Backbone, tenant: str) -> GetBlob:
    """The stored blobs of a tenant, as a replay reads them."""

    async def get_blob(digest: str) -> bytes | None:
        try:
            return await backbone.blobs.get(tenant, digest)
        except IntegrityViolated:
            return None

    return get_blob


def _json(check: Check) -> str:
    return orjson.dumps(asdict(check), option=orjson.OPT_APPEND_NEWLINE).decode()


def _line(check: Check) -> str:
    attempt = f", attempt {check.attempt}" if check.attempt > 1 else ""
    detail = f": {check.detail}" if check.detail else ""
    asked = f", {check.ask} of a tool" if check.ask else ""
    place = f"step {check.step}{attempt}{asked} (version {check.version})"
    return f"{MARKS[check.verdict]} {place} {check.verdict}{detail}\n"


def _summary(run: str, report: ReplayReport) -> str:
    count = sum(check.verdict == "verified" for check in report.checks)
    return (
        f"run {run}: {count} of {len(report.checks)} requests verified, "
        f"{report.events} events in {report.envelopes} envelopes\n"
    )
