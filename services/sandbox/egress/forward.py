"""Carrying HTTP requests to hosts and their answers back. Not which host may be asked for.

A request is read whole and said anew, so what goes out is framed as we frame it. Towards the hosts
of a secret, its stand-in becomes the value here, and nowhere else; and back again in the answer.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import h11

from domain.addresses import Address
from services.sandbox.egress.clean import Cleaner
from services.sandbox.egress.guest import Guest
from services.sandbox.egress.http import Headers, Http, check_head, header, passed_on
from services.sandbox.egress.names import Where
from services.sandbox.egress.outside import Outside
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.stand_ins import put_in
from services.sandbox.egress.streams import Metered
from services.sandbox.egress.timing import Idle

LINGER_S = 5.0
"""For the rest of a request whose answer is complete already: else the client might miss it."""

IDENTITY = (b"accept-encoding", b"identity")
UNSAFE_TO_CLEAN = frozenset({b"accept-encoding", b"range", b"if-range"})
"""Asked for by a client, these give an answer in which a value cannot be found: compressed, or in
pieces."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where requests go. `injecting`: values may be put in, and are kept out of answers."""

    where: Where
    addresses: Sequence[Address]
    tls: bool = False
    injecting: bool = False


class Forwarder:
    """Carries the requests of one client connection, over one connection to a host at a time."""

    def __init__(self, client: Http, guest: Guest, outside: Outside, idle_s: float) -> None:
        self._client = client
        self._guest = guest
        self._outside = outside
        self._idle_s = idle_s
        self._kept: tuple[Goal, Http, Metered] | None = None

    async def carry(self, request: h11.Request, goal: Goal, path: bytes) -> None:
        """Carry a request to its goal and the answer back.

        Raises:
            Refused: it cannot be; if the answer has begun, all that is left is to hang up.
            OSError: the client is gone.
        """
        check_head(request)
        upstream = await self._reach(goal)
        headers = _request_headers(request, goal)
        used: tuple[str, ...] = ()
        if goal.injecting:
            headers, used = put_in(headers, self._guest.for_host(goal.where.host))
        status = 0
        try:
            head = h11.Request(method=request.method, target=path, headers=headers)
            with _broken():
                await upstream.send(head)
            async with Idle(self._idle_s) as idle, self._sending(upstream, request, idle):
                answer = await self._head(upstream, idle)
                status = answer.status_code
                await self._pass_back(upstream, answer, goal, idle)
        except Refused as refused:
            refused.host, refused.port = goal.where
            raise
        finally:
            for name in used:
                self._guest.counter.use(name, goal.where.host, request.method.decode(), status)

    def close(self) -> None:
        """Drop the connection to the host, if there is one."""
        if self._kept is not None:
            self._kept[2].close()
            self._kept = None

    async def _reach(self, goal: Goal) -> Http:
        """The connection that is there, if it leads to the goal and is ready; or a new one."""
        if self._kept is not None:
            kept_goal, http, stream = self._kept
            if kept_goal.where == goal.where and not stream.ended and http.next_cycle():
                return http
            self.close()
        connection = await self._outside.dial(goal.where, goal.addresses, tls=goal.tls)
        key = self._guest.opened(goal.where)
        stream = Metered(connection, lambda sent, received: self._guest.pay(key, sent, received))
        http = Http(h11.CLIENT, stream)
        self._kept = (goal, http, stream)
        return http

    @asynccontextmanager
    async def _sending(
        self, upstream: Http, request: h11.Request, idle: Idle
    ) -> AsyncGenerator[None]:
        """The body is sent meanwhile; what is not sent when the answer is complete, is not."""
        if header(request.headers, b"content-length") is None and (
            header(request.headers, b"transfer-encoding") is None
        ):
            await self._send_body(upstream, idle)
            yield
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send_body(upstream, idle))
                yield
                await asyncio.wait([sending], timeout=LINGER_S)
                sending.cancel()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _send_body(self, upstream: Http, idle: Idle) -> None:
        while True:
            event = await self._client.receive()
            idle.touch()
            try:
                if isinstance(event, h11.Data):
                    await upstream.send(h11.Data(data=event.data))
                elif isinstance(event, h11.EndOfMessage):
                    await upstream.send(h11.EndOfMessage())
                    return
                else:
                    raise EOFError  # noqa: TRY004 - the client has gone in the middle
            except OSError:
                return  # the host listens no more: its answer, or the lack of one, says why

    async def _head(self, upstream: Http, idle: Idle) -> h11.Response:
        while True:
            with _broken():
                event = await upstream.receive()
            idle.touch()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise Refused(Reason.BROKEN)

    async def _pass_back(
        self, upstream: Http, answer: h11.Response, goal: Goal, idle: Idle
    ) -> None:
        headers, reason, cleaner = passed_on(answer.headers), answer.reason, None
        if goal.injecting:
            cleaner = Cleaner(answer, headers, self._guest.known)
            headers, reason = cleaner.headers, cleaner.reason
        await self._client.send(
            h11.Response(status_code=answer.status_code, reason=reason, headers=headers)
        )
        while True:
            with _broken():
                event = await upstream.receive()
            idle.touch()
            if isinstance(event, h11.Data):
                data = bytes(event.data)
                for piece in cleaner.feed(data) if cleaner else (data,):
                    await self._give(piece)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise Refused(Reason.BROKEN)
        if cleaner is not None:
            await self._give(cleaner.finish())
        await self._client.send(h11.EndOfMessage())

    async def _give(self, data: bytes) -> None:
        if data:
            await self._client.send(h11.Data(data=data))


def _request_headers(request: h11.Request, goal: Goal) -> Headers:
    """What the host is told, still with stand-ins."""
    but = UNSAFE_TO_CLEAN if goal.injecting else frozenset[bytes]()
    headers = passed_on(request.headers, but | {b"host"})
    default = 443 if goal.tls else 80
    host = goal.where.host if goal.where.port == default else f"{goal.where.host}:{goal.where.port}"
    first = [(b"host", host.encode())]
    return [*first, *headers, IDENTITY] if goal.injecting else [*first, *headers]


@contextlib.contextmanager
def _broken() -> Generator[None]:
    """What goes wrong inside is the host's doing."""
    try:
        yield
    except (OSError, h11.RemoteProtocolError):
        raise Refused(Reason.BROKEN) from None
