"""`peritus approve`: let a call that waits run, as it is or edited. Not the running."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from domain.errors import Rejected
from domain.ids import RunRef
from peritus.cli import asks, options
from peritus.cli.asks import Shown
from peritus.cli.deciding import Deciding, deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.cli.prompting import person_there
from peritus.cli.wording import call_line
from peritus.ids import now_ms
from peritus.people import change_policy, decide
from projections.family import Family, load_family
from projections.remembering import allowing
from projections.waits import APPROVALS, find_wait


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    name: str | None
    all: bool
    edited: str | None
    remember: bool
    exact: bool
    reason: str
    sure: bool


def command(  # noqa: PLR0913 - one parameter an option
    run: options.Run,
    approval: options.Approval = None,
    *,
    edit: Annotated[
        str | None,
        typer.Option(help="Run it with these arguments instead, a JSON object.", metavar="JSON"),
    ] = None,
    edit_file: Annotated[
        Path | None, typer.Option(help="The same, from a file; `-` reads it.", metavar="FILE")
    ] = None,
    remember: Annotated[
        bool, typer.Option("--remember", help="Let this tool of this expert through from now on.")
    ] = False,
    remember_exact: Annotated[
        bool, typer.Option("--remember-exact", help="The same, for these arguments alone.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Approve all that waits in the job.")
    ] = False,
    reason: options.Reason = "",
    sure: options.Sure = False,
    config: options.Config = None,
) -> None:
    """Approve a call that waits, or going beyond a soft limit. What runs is the recorded call.

    Without APPROVAL, exactly one has to wait; on a terminal it is shown first. A name such as
    `c2-0@1f3a9c2e`, as `peritus waiting` prints it, decides about the arguments you saw alone.
    """
    given = [edit is not None, edit_file is not None]
    if sum(given) > 1 or (remember and remember_exact):
        options.refuse("give one of --edit and --edit-file, of --remember and its like")
    if everything and (approval is not None or any(given)):
        options.refuse("--all goes with no APPROVAL and no edit")
    text = options.text_of(str(edit_file), file=True) if edit_file is not None else edit
    edited = None if text is None else _object(text)
    asked = Asked(approval, everything, edited, remember, remember_exact, reason, sure)
    raise typer.Exit(run_async(_approve(here(config), run, asked)))


def _object(text: str) -> str:
    """The arguments as they are sent: what the domain would refuse is refused with its place."""
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise Rejected("bad_edit", f"the arguments are not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Rejected("bad_edit", 'the arguments must be a JSON object, such as \'{"path": "a"}\'')
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _approve(place: Place, run: str, asked: Asked) -> Exit:
    async with deciding(place, run) as at:
        ports = at.link.backbone
        family = await load_family(ports.log, at.ref)
        chosen = await _chosen(at, family, asked)
        if not await confirmed("approve", chosen, sure=asked.sure or _named(asked)):
            notice("nothing was decided")
            return Exit.COMPLETED
        for one in chosen:
            await decide(
                at.send, one.wait, approve=True, arguments=asked.edited, reason=asked.reason
            )
            notice(approved_line(one, asked.edited))
            await _remember(at, family.root(at.ref.run), one, asked)
        await at.tell_rest()
    return Exit.COMPLETED


def approved_line(one: Shown, edited: str | None) -> str:
    """What was approved, with the arguments it runs with."""
    if edited is None:
        return f"approved: {asks.headline(one)}"
    return f"approved with other arguments: {call_line(one.wait.tool, edited)}"


def _named(asked: Asked) -> bool:
    """Whether the person said what it is about, and so has seen it."""
    return asked.name is not None


async def _chosen(at: Deciding, family: Family, asked: Asked) -> list[Shown]:
    blobs = at.link.backbone.blobs
    if not asked.all:
        wait = find_wait(family.waits(at.ref.run), asked.name, APPROVALS)
        return [await asks.shown(blobs, wait)]
    waits = [one for one in family.waits(family.root(at.ref.run).run) if one.kind in APPROVALS]
    if not waits:
        raise Rejected("not_waiting", f"nothing waits for approval in job {at.ref.job}")
    return [await asks.shown(blobs, wait) for wait in waits]


async def confirmed(verb: str, chosen: list[Shown], *, sure: bool) -> bool:
    """Whether the person wants that: asked when they have not named it and sit at a terminal."""
    if sure or not person_there():
        return True
    for one in chosen:
        typer.echo(asks.block(one, now_ms()))
    what = "this" if len(chosen) == 1 else f"all {len(chosen)}"
    return await asyncio.to_thread(typer.confirm, f"{verb} {what}?")


async def _remember(at: Deciding, root: RunRef, one: Shown, asked: Asked) -> None:
    """Have the decision count for the whole job; decided first, so that nothing else is allowed."""
    if not (asked.remember or asked.exact) or one.wait.kind == "budget":
        return
    exactly = (asked.edited or one.arguments) if asked.exact else None
    rule = allowing(one.wait, arguments=exactly, reason=asked.reason)
    await change_policy(at.send, root, (rule,))
    notice(f"from now on in this job: {asks.rule_line(rule)}")
