"""The proxy process: does what the worker asks, and serves every sandbox. Not how it is started.

Values of secrets are resolved here and stay here. What fails is said without any text that could
hold one: the kind of the error is all that leaves.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from domain.errors import Rejected, Unavailable
from domain.sandbox import EgressRow
from domain.secrets import SecretRef, SecretValue
from services.sandbox.egress.budget import Budget
from services.sandbox.egress.guest import Guest
from services.sandbox.egress.outside import Outside
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.egress.stand_ins import StandIn, new_token, unfit
from services.sandbox.egress.visit import Visitors
from services.sandbox.egress.wire import (
    Attach,
    Channel,
    Denied,
    Detach,
    Done,
    Made,
    Message,
    Prepare,
    Ready,
    Spent,
    Start,
    Take,
    Taken,
    Trouble,
)
from services.secrets.config import open_source

if TYPE_CHECKING:
    from services.sandbox.egress.authority import Authority  # slow to load, seldom needed

ROWS_MAX = 200
"""Rows in one message to the worker."""

NO_DESCRIPTORS_S = 0.1
"""How long nothing is accepted when this process has no descriptors left."""


@dataclass(frozen=True, slots=True)
class _Served:
    guest: Guest
    task: asyncio.Task[None]


class Service:
    """All sandboxes of one worker."""

    def __init__(self, start: Start, channel: Channel, tasks: asyncio.TaskGroup) -> None:
        self._settings: EgressSettings = start.settings
        self._channel = channel
        self._tasks = tasks
        self._authority_pem = start.authority
        self._authority: Authority | None = None
        self._served: dict[int, _Served] = {}
        self._visitors = Visitors(
            start.settings, Outside(start.settings, start.roots), self._vouching
        )

    async def run(self) -> None:
        """Do as the worker says until it hangs up.

        Raises:
            OSError: the worker is gone.
        """
        await self._channel.send(Ready())
        while (received := await self._channel.receive()) is not None:
            message, descriptor = received
            self._tasks.create_task(self._answer(message, descriptor))

    async def _answer(self, message: Message, descriptor: int | None) -> None:
        try:
            match message:
                case Prepare():
                    reply: Message = await self._prepare(message)
                case Attach() if descriptor is not None:
                    reply = await self._attach(message, socket.socket(fileno=descriptor))
                case Detach():
                    reply = await self._detach(message)
                case Take():
                    reply = self._take(message)
                case _:
                    return
        except Exception as error:  # noqa: BLE001 - the worker must get an answer
            number = getattr(message, "number", 0)
            reply = Trouble(number=number, message=type(error).__name__)
        await self._channel.send(reply)

    async def _prepare(self, asked: Prepare) -> Made:
        tokens: dict[str, str] = {}
        missing: dict[str, str] = {}
        for grant in asked.policy.secrets:
            secret, why = await self._resolve(grant.name, asked.variables)
            if secret is None:
                missing[grant.name] = why
            else:
                tokens[grant.name] = new_token(secret)
        vouching = self._vouching() if tokens else None
        return Made(
            number=asked.number,
            stand_ins=tokens,
            missing=missing,
            authority=self._authority_pem if vouching else None,
            certificate=vouching.certificate.decode() if vouching else None,
        )

    async def _resolve(
        self, name: str, variables: Mapping[str, str]
    ) -> tuple[SecretValue | None, str]:
        """A value that can be put in at egress; or why there is none."""
        if self._settings.secrets is None:
            return None, "no place for secrets is configured"
        source = open_source(self._settings.secrets, variables=variables)
        try:
            secret = await source.resolve(SecretRef(name=name), purpose="egress")
        except (Rejected, Unavailable) as error:
            return None, str(error)
        why = unfit(secret)
        return (None, why) if why else (secret, "")

    async def _attach(self, asked: Attach, listener: socket.socket) -> Done:
        number = asked.session

        def on_denied(row: EgressRow) -> None:
            self._tell(Denied(session=number, row=row))

        def on_spent(spent: int) -> None:
            self._tell(Spent(session=number, spent=spent))

        try:
            stand_ins = await self._stand_ins(asked)
        except BaseException:
            listener.close()
            raise
        guest = Guest(
            asked.policy,
            self._settings,
            stand_ins=stand_ins,
            budget=Budget(
                asked.policy.bytes_max,
                asked.policy.bytes_per_s,
                spent=asked.spent,
                clock=asyncio.get_running_loop().time,
            ),
            on_denied=on_denied,
            on_spent=on_spent,
        )
        task = self._tasks.create_task(self._listen(guest, listener))
        self._served[number] = _Served(guest, task)
        return Done(number=asked.number)

    async def _stand_ins(self, asked: Attach) -> tuple[StandIn, ...]:
        """The stand-ins a sandbox has, with the values as they are now."""
        found: list[StandIn] = []
        for grant in asked.policy.secrets:
            token = asked.stand_ins.get(grant.name)
            secret, _ = await self._resolve(grant.name, asked.variables)
            if token is not None and secret is not None:
                found.append(StandIn(grant, token.encode(), secret))
        return tuple(found)

    async def _listen(self, guest: Guest, listener: socket.socket) -> None:
        """Serve every connection to a listener until it is detached."""
        listener.settimeout(0)
        loop = asyncio.get_running_loop()
        with listener:
            async with asyncio.TaskGroup() as visits:
                while True:
                    try:
                        accepted, _ = await loop.sock_accept(listener)
                    except OSError:
                        await asyncio.sleep(NO_DESCRIPTORS_S)
                    else:
                        visits.create_task(self._visitors.serve(guest, accepted))

    async def _detach(self, asked: Detach) -> Done:
        served = self._served.pop(asked.session, None)
        if served is not None:
            served.task.cancel()
            await asyncio.wait([served.task])
        return Done(number=asked.number)

    def _take(self, asked: Take) -> Taken:
        guest = self._served[asked.session].guest
        tally, more = guest.counter.take(ROWS_MAX)
        return Taken(number=asked.number, tally=tally, more=more, spent=guest.budget.spent)

    def _tell(self, message: Message) -> None:
        self._tasks.create_task(self._channel.send(message))

    def _vouching(self) -> "Authority":
        if self._authority is None:
            from services.sandbox.egress import authority  # noqa: PLC0415 - slow, seldom needed

            def now() -> datetime:
                return datetime.now(UTC)  # noqa: TID251 - certificates are dated by the real clock

            pem = self._authority_pem or authority.create(now).decode()
            self._authority_pem = pem
            self._authority = authority.Authority(pem.encode(), now)
        return self._authority
