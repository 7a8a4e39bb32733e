"""How a command has something decided: by whoever is at work, else by itself. Not what it asks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from commands.client import CommandClient
from domain.commands import Command
from domain.ids import RunRef
from domain.prompt import ModelRequest
from peritus.cli.loop import notice
from peritus.cli.observing import Place
from peritus.door import Door
from peritus.ids import new_id
from peritus.jobs import Send, at_desk, load_state
from peritus.logs import REDACTIONS
from peritus.lookup import Runs, views_at
from peritus.people import signed, this_user
from peritus.runtime import Link, open_backbone, worker_parts, working
from services.loop.models.port import ModelFailure, ModelReply
from services.worker.epoch import Epoch, proven_dead, this_epoch
from services.worker.signs import Sign


@dataclass(frozen=True, slots=True)
class Deciding:
    """A run, and the way to ask something of it in this user's name.

    `attended`: somebody is at work who carries on what follows.
    """

    link: Link
    ref: RunRef
    send: Send
    attended: bool

    async def tell_rest(self) -> None:
        """Say who carries the run on, if nobody does.

        Raises:
            Unavailable: the log is away.
        """
        state, _ = await load_state(self.link.backbone.log, self.ref)
        if not self.attended and not state.at_rest:
            notice(f"nobody works on it now; go on with: peritus resume {self.ref.run}")


@asynccontextmanager
async def deciding(place: Place, name: str) -> AsyncGenerator[Deciding]:
    """Be able to ask something of a run while the context is open.

    Raises:
        NoSuchRun: there is none of that name.
        Unavailable: there is no server to use.
    """
    settings, project = place.settings, place.project
    by = this_user("cli")
    async with open_backbone(settings, project.state) as link:
        log = link.backbone.log
        ref = await Runs(log, settings.tenant, views_at(settings, project)).find(name)
        if await _somebody_decides(link):
            yield Deciding(link, ref, signed(_by_request(link), by), attended=True)
            return
        # Nobody is there to settle it, so this process decides; it executes nothing itself.
        door = Door()
        parts = await worker_parts(
            settings,
            link,
            door,
            generate=_nothing,
            only=lambda one: one.job == ref.job,
        )
        door.close()
        async with working(parts) as desk:
            yield Deciding(link, ref, signed(at_desk(desk), by), attended=False)


def _by_request(link: Link) -> Send:
    client = CommandClient(link.backbone, REDACTIONS.redactor)

    async def send(ref: RunRef, command: Command) -> None:
        if await client.submit(ref, command, new_id()) is None:
            notice("nobody has answered yet; it is stored, and decided as soon as a worker does")

    return send


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
    raise ModelFailure(kind="overloaded", message="this process only decides")
