"""A host is dialled at an address that was checked, or not at all (C16)."""

import ipaddress
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2
import pytest

from domain.addresses import Address, Guard, networks
from services.tool.mcp.addresses import CheckedBackend, Host, Refused, plain_admits
from services.tool.mcp.http_settings import HttpSettings
from services.tool.mcp.http_transport import Forbidden, Way, guard_of, trust_of

pytestmark = pytest.mark.anyio

PUBLIC, OTHER, PRIVATE = "93.184.215.14", "93.184.215.15", "10.0.0.7"


class Names:
    """Name servers: each question has its own answer."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: Host) -> list[Address]:
        self.asked.append(host.name)
        return [ipaddress.ip_address(text) for text in self.answers.pop(0)]


class Net(httpcore2.AsyncNetworkBackend):
    """Takes connections at some addresses."""

    def __init__(self, *open_at: str) -> None:
        self.open_at = open_at
        self.dialled: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        del port, timeout, local_address, socket_options
        self.dialled.append(host)
        if host not in self.open_at:
            raise httpcore2.ConnectError
        return httpcore2.AsyncMockStream([])


async def none() -> dict[str, str]:
    return {}


def guard(*allowed: str) -> Guard:
    return Guard(lambda _: False, networks(allowed))


async def test_what_is_dialled_is_what_was_checked_and_no_name_is_asked_twice() -> None:
    names, net = Names([PUBLIC], ["127.0.0.1"]), Net(PUBLIC)
    backend = CheckedBackend(guard().admits, "no", net, names)
    await backend.connect_tcp("example.com", 443)
    assert net.dialled == [PUBLIC]
    assert names.asked == ["example.com"]


async def test_a_name_that_leads_inside_is_refused_each_time_it_is_resolved() -> None:
    names, net = Names([PUBLIC], ["127.0.0.1"], [PRIVATE, "::1"]), Net(PUBLIC, "127.0.0.1")
    backend = CheckedBackend(guard().admits, "why not", net, names)
    await backend.connect_tcp("example.com", 443)
    for _ in range(2):
        with pytest.raises(Refused, match="why not"):
            await backend.connect_tcp("example.com", 443)
    assert net.dialled == [PUBLIC]


async def test_of_several_addresses_only_those_that_may_be_reached_are_tried() -> None:
    names, net = Names([PRIVATE, PUBLIC, "::ffff:10.0.0.7", OTHER]), Net(OTHER, PRIVATE)
    backend = CheckedBackend(guard().admits, "no", net, names)
    await backend.connect_tcp("example.com", 443)
    assert net.dialled == [PUBLIC, OTHER]


async def test_a_host_that_answers_nowhere_is_told_by_its_name() -> None:
    names, net = Names([PUBLIC, OTHER]), Net()
    backend = CheckedBackend(guard().admits, "no", net, names)
    with pytest.raises(httpcore2.ConnectError, match=r"example\.com:443 takes no connection"):
        await backend.connect_tcp("example.com", 443)


async def test_a_name_nobody_knows_is_no_connection() -> None:
    async def unknown(host: Host) -> list[Address]:
        raise OSError(host.name)

    backend = CheckedBackend(guard().admits, "no", Net(), unknown)
    with pytest.raises(httpcore2.ConnectError, match=r"no address is known for nowhere\.invalid"):
        await backend.connect_tcp("nowhere.invalid", 443)


async def test_without_tls_only_what_an_operator_allowed_is_reached() -> None:
    admits = plain_admits(guard("10.0.0.0/8"))
    assert admits(ipaddress.ip_address(PRIVATE))
    assert not admits(ipaddress.ip_address(PUBLIC))


INSIDE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[fe80::1]",
    "10.0.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "localhost",
]


@pytest.mark.parametrize("host", INSIDE)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_spelling_of_an_address_inside_is_reached(scheme: str, host: str) -> None:
    url = f"{scheme}://{host}:9/mcp"
    settings = HttpSettings(connect_s=2.0)
    way = Way(url, none, settings, trust_of(settings))
    async with httpx2.AsyncClient(transport=way, trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError, match=r"may not be reached|no address is known"):
            await client.get(url)


@pytest.mark.parametrize("url", ["ftp://example.com/", "file:///etc/passwd", "ws://example.com/"])
async def test_nothing_but_http_is_spoken(url: str) -> None:
    settings = HttpSettings()
    way = Way("https://example.com/mcp", none, settings, trust_of(settings))
    with pytest.raises(Forbidden):
        await way.handle_async_request(httpx2.Request("GET", url))
    await way.aclose()


@pytest.mark.parametrize(
    ("domains", "host", "reached"),
    [
        (None, "a.example", True),
        (("*",), "a.example", True),
        (("a.example",), "a.example", True),
        (("*.example",), "a.example", True),
        ((), "a.example", False),
        (("b.example",), "a.example", False),
    ],
)
async def test_an_operator_says_which_hosts_definitions_may_reach(
    *, domains: tuple[str, ...] | None, host: str, reached: bool
) -> None:
    settings = HttpSettings(domains=domains, connect_s=2.0)
    way = Way(f"https://{host}/mcp", none, settings, trust_of(settings))
    kind = httpx2.ConnectError if reached else Forbidden
    with pytest.raises(kind) as caught:
        await way.handle_async_request(httpx2.Request("GET", f"https://{host}/mcp"))
    assert isinstance(caught.value, Forbidden) is not reached
    await way.aclose()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.1.2.3"])
async def test_a_proxy_is_not_asked_for_an_address_inside(host: str) -> None:
    settings = HttpSettings(proxy="http://127.0.0.1:9")
    way = Way(f"https://{host}/mcp", none, settings, trust_of(settings))
    with pytest.raises(Forbidden, match="may not be reached"):
        await way.handle_async_request(httpx2.Request("GET", f"https://{host}/mcp"))
    await way.aclose()


async def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    settings = HttpSettings(connect_s=2.0)
    url = "https://nowhere.invalid/mcp"
    way = Way(url, none, settings, trust_of(settings))
    async with httpx2.AsyncClient(transport=way, trust_env=False) as client:
        with pytest.raises(httpx2.ConnectError, match="no address is known"):
            await client.get(url)


def test_metadata_services_cannot_be_allowed() -> None:
    rule = guard_of(HttpSettings(allow_cidrs=("0.0.0.0/0", "::/0")))
    assert not rule.admits(ipaddress.ip_address("169.254.169.254"))
    assert rule.admits(ipaddress.ip_address("10.0.0.1"))
