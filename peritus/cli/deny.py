"""`peritus deny`: keep a call that waits from running; the expert reads why. Not a cancel."""

from typing import Annotated

import typer

from peritus.cli import asks, options
from peritus.cli.approve import confirmed
from peritus.cli.deciding import deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, here
from peritus.people import change_policy, decide
from projections.family import load_family
from projections.remembering import denying
from projections.waits import APPROVALS, find_wait


def command(
    run: options.Run,
    approval: options.Approval = None,
    *,
    reason: options.Reason = "",
    remember: Annotated[
        bool, typer.Option("--remember", help="Keep this tool from this expert from now on.")
    ] = False,
    sure: options.Sure = False,
    config: options.Config = None,
) -> None:
    """Deny a call that waits: the expert is told, and goes on. Of a soft limit: the run stops."""
    work = _deny(here(config), run, approval, reason, remember=remember, sure=sure)
    raise typer.Exit(run_async(work))


async def _deny(
    place: Place, run: str, name: str | None, reason: str, *, remember: bool, sure: bool
) -> Exit:
    async with deciding(place, run) as at:
        ports = at.link.backbone
        family = await load_family(ports.log, at.ref)
        wait = find_wait(family.waits(at.ref.run), name, APPROVALS)
        one = await asks.shown(ports.blobs, wait)
        rule = denying(wait, reason=reason) if remember else None
        if not await confirmed("deny", [one], sure=sure or name is not None):
            notice("nothing was decided")
            return Exit.COMPLETED
        await decide(at.send, wait, approve=False, reason=reason)
        notice(f"denied: {asks.headline(one)}")
        if rule is not None:
            await change_policy(at.send, family.root(at.ref.run), (rule,))
            notice(f"from now on in this job: {asks.rule_line(rule)}")
        await at.tell_rest()
    return Exit.COMPLETED
