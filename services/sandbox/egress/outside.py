"""Reaching hosts: a name becomes addresses once, they are checked, and they are dialled. No policy.

Whoever comes here has had the name checked: nothing is resolved that is not allowed.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Sequence

from domain.addresses import Address, Guard, networks
from services.network.own import is_own
from services.sandbox.egress.names import Where
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.streams import CHUNK, SocketStream

DIALLED_MAX = 4
"""How many addresses of a name are tried."""


class Outside:
    """The way to hosts: the system's resolver and sockets, with an operator's settings."""

    def __init__(self, settings: EgressSettings, roots: str | None) -> None:
        self._settings = settings
        self._roots = roots
        self._guard = Guard(is_own, networks(settings.allow_cidrs), networks(settings.deny_cidrs))
        self._trust: ssl.SSLContext | None = None

    async def addresses(self, where: Where) -> tuple[Address, ...]:
        """Those addresses of a host that may be dialled.

        Raises:
            Refused: there are none.
        """
        fixed = self._settings.hosts.get(where.host)
        found = await self._resolved(where) if fixed is None else [ipaddress.ip_address(fixed)]
        admitted = tuple(filter(self._guard.admits, found))
        if not admitted:
            raise Refused(Reason.ADDRESS, *where)
        return admitted

    async def dial(self, where: Where, addresses: Sequence[Address], *, tls: bool) -> SocketStream:
        """A connection to one of the addresses, which were checked.

        Raises:
            Refused: none answers, or the host cannot prove its name.
        """
        try:
            async with asyncio.timeout(self._settings.dial_s):
                return await self._first(where, addresses, tls=tls)
        except ssl.SSLError:
            raise Refused(Reason.UPSTREAM_TLS, *where) from None
        except OSError:  # TimeoutError is one
            raise Refused(Reason.UNREACHABLE, *where) from None

    async def _first(
        self, where: Where, addresses: Sequence[Address], *, tls: bool
    ) -> SocketStream:
        last: OSError | None = None
        for address in addresses[:DIALLED_MAX]:
            try:
                return SocketStream(
                    *await asyncio.open_connection(
                        str(address),
                        where.port,
                        limit=CHUNK,
                        ssl=self._trusting() if tls else None,
                        server_hostname=where.host if tls else None,
                    )
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                last = error
        raise last or OSError

    async def _resolved(self, where: Where) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.dial_s):
                found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
        except OSError:
            raise Refused(Reason.UNRESOLVED, *where) from None
        texts = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
        return [ipaddress.ip_address(text) for text in texts]

    def _trusting(self) -> ssl.SSLContext:
        """Whom a host is believed to be: what the system believes, and the operator beside it."""
        if self._trust is None:
            self._trust = ssl.create_default_context(cafile=self._roots)
            if self._settings.extra_ca_file is not None:
                self._trust.load_verify_locations(cafile=self._settings.extra_ca_file)
            self._trust.set_alpn_protocols(["http/1.1"])
        return self._trust
