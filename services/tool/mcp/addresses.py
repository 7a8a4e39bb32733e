"""Connections to hosts by name: resolved, checked and dialled in one go. Not HTTP, and no policy.

What is dialled is the address that was checked, so that a name server has no second say.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import httpcore2

from domain.addresses import Address, Guard

DIALLED_MAX = 4
"""How many addresses of a name are tried."""

Admits = Callable[[Address], bool]
Resolve = Callable[["Host"], Awaitable[list[Address]]]


class Host(NamedTuple):
    """A host as an URL spells it, and a port."""

    name: str
    port: int


class Refused(httpcore2.ConnectError):
    """A host may not be dialled; the message says what to change. Nothing was sent."""


async def resolved(host: Host) -> list[Address]:
    """The addresses of a host, by the system's resolver; a literal one is its own.

    Raises:
        OSError: nobody knows the name.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    texts = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
    return [ipaddress.ip_address(text) for text in texts]


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Dials what a rule admits. Nothing else can be reached over it."""

    def __init__(
        self,
        admits: Admits,
        refusal: str,
        inner: httpcore2.AsyncNetworkBackend,
        resolve: Resolve = resolved,
    ) -> None:
        """`refusal` says what to change where nothing is admitted."""
        self._resolve = resolve
        self._admits = admits
        self._refusal = refusal
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to one of the addresses of a host.

        Raises:
            Refused: none of them may be dialled.
            httpcore2.ConnectError: nobody knows the host, or none of its addresses answers.
            httpcore2.ConnectTimeout: it took too long.
        """
        where = Host(host, port)
        try:
            async with asyncio.timeout(timeout):
                addresses = [one for one in await self._resolved(where) if self._admits(one)]
                if not addresses:
                    message = f"{where.name} may not be reached: {self._refusal}"
                    raise Refused(message)
                return await self._first(where, addresses, local_address, socket_options)
        except TimeoutError:
            message = f"{where.name} did not answer in time"
            raise httpcore2.ConnectTimeout(message) from None

    async def _first(
        self,
        where: Host,
        addresses: list[Address],
        local_address: str | None,
        socket_options: Iterable[Any] | None,
    ) -> httpcore2.AsyncNetworkStream:
        last: Exception | None = None
        for address in addresses[:DIALLED_MAX]:
            try:
                return await self._inner.connect_tcp(
                    str(address),
                    where.port,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except httpcore2.ConnectError as error:
                last = error
        message = f"{where.name}:{where.port} takes no connection"
        raise httpcore2.ConnectError(message) from last

    async def _resolved(self, where: Host) -> list[Address]:
        try:
            return await self._resolve(where)
        except (OSError, UnicodeError):
            message = f"no address is known for {where.name}"
            raise httpcore2.ConnectError(message) from None


def plain_admits(guard: Guard) -> Admits:
    """What may be reached without TLS: only what an operator made an exception for."""
    return lambda address: guard.admits(address) and guard.is_exception(address)
