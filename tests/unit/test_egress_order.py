"""The order of checks: no name server hears of a name that is not allowed (C16)."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import pytest

from domain.addresses import Address
from services.sandbox.egress.authority import Authority
from services.sandbox.egress.budget import Budget
from services.sandbox.egress.guest import Guest
from services.sandbox.egress.names import Where
from services.sandbox.egress.outside import Outside
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.streams import SocketStream
from services.sandbox.egress.visit import Visitors

pytestmark = pytest.mark.anyio

WAIT_S = 10.0


class Recording(Outside):
    """An outside that only remembers what it was asked to resolve."""

    def __init__(self) -> None:
        super().__init__(EgressSettings(), None)
        self.resolved: list[str] = []

    async def addresses(self, where: Where) -> tuple[Address, ...]:
        self.resolved.append(where.host)
        raise Refused(Reason.UNRESOLVED, *where)

    async def dial(self, where: Where, addresses: Sequence[Address], *, tls: bool) -> SocketStream:
        raise NotImplementedError


def no_authority() -> Authority:
    raise NotImplementedError


async def resolved_for(request: bytes) -> list[str]:
    """The names that one request lets be resolved."""
    policy = EgressPolicy(domains=("up.test", "*.wild.test"))
    clock = asyncio.get_running_loop().time
    guest = Guest(
        policy,
        EgressSettings(),
        stand_ins=(),
        budget=Budget(10**6, 10**6, spent=0, clock=clock),
        on_denied=lambda _: None,
        on_spent=lambda _: None,
    )
    outside = Recording()
    ours, theirs = socket.socketpair()
    with ours:
        theirs.settimeout(0)
        ours.sendall(request)
        ours.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(WAIT_S):
            await Visitors(EgressSettings(), outside, no_authority).serve(guest, theirs)
        assert ours.recv(100_000).startswith(b"HTTP/1.1 ")
    return outside.resolved


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT evil.test:443",
        "CONNECT c2VjcmV0.exfil.test:443",
        "CONNECT up.test:25",
        "CONNECT localhost:443",
        "GET http://c2VjcmV0.exfil.test/",
        "GET http://up.test:25/",
        "GET https://up.test/",
    ],
)
async def test_a_name_that_is_not_allowed_is_not_resolved(request_line: str) -> None:
    assert await resolved_for(f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) == []


async def test_a_host_header_is_not_resolved() -> None:
    request = b"GET http://up.test/ HTTP/1.1\r\nHost: c2VjcmV0.exfil.test\r\n\r\n"
    assert await resolved_for(request) == []


async def test_a_name_that_is_allowed_is_resolved_once() -> None:
    assert await resolved_for(b"CONNECT UP.test.:443 HTTP/1.1\r\nHost: x\r\n\r\n") == ["up.test"]


@pytest.mark.parametrize("host", ["localhost", "ip6-localhost"])
async def test_an_allowed_name_that_leads_home_is_refused(host: str) -> None:
    """The system's resolver says where it leads; what it says is not trusted."""
    with pytest.raises(Refused) as refused:
        await Outside(EgressSettings(), None).addresses(Where(host, 80))
    assert refused.value.reason in {Reason.ADDRESS, Reason.UNRESOLVED}
    assert host != "localhost" or refused.value.reason is Reason.ADDRESS


async def test_of_many_addresses_only_the_public_are_dialled() -> None:
    class Mixed(Outside):
        async def _resolved(self, where: Where) -> list[Address]:
            del where
            found = ["10.0.0.1", "8.8.8.8", "::1", "169.254.169.254"]
            return [ipaddress.ip_address(text) for text in found]

    found = await Mixed(EgressSettings(), None).addresses(Where("up.test", 443))
    assert list(map(str, found)) == ["8.8.8.8"]
