"""The proxy between real clients and real hosts: what gets through, and what does not (C16)."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from domain.sandbox import EgressRow
from tests.integration.egress_world import GOOD, INNER, META, WAIT_S, World, body, world
from tests.unit.test_egress_hello import hello_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with world(tmp_path_factory.mktemp("egress")) as made:
        yield made


@pytest.fixture
async def here(shared: World) -> World:
    """A world in which nothing has happened yet, but for the denials that were heard."""
    await shared.forget()
    return shared


FETCH = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
except Exception as error:
    print(type(error).__name__, error)
"""


async def test_allowed_hosts_are_reached(here: World) -> None:
    assert await here.curl(f"http://{GOOD}:{here.web.port}/a?b=c") == (0, "hello")
    assert await here.curl(f"https://{GOOD}:{here.safe.port}/d") == (0, "hello")
    assert here.web.heads[0].startswith(b"GET /a?b=c HTTP/1.1\r\nhost: up.test:")
    assert b"GET /d HTTP/1.1\r\nHost: up.test" in here.safe.heads[0]
    tally = await here.session.take()
    assert [(row.host, row.port, row.verdict, row.connections) for row in tally.rows] == [
        (GOOD, port, "allowed", 1) for port in sorted((here.web.port, here.safe.port))
    ]
    assert all(row.bytes_in > 5 and row.bytes_out > 40 for row in tally.rows)
    assert (await here.session.take()).rows == ()


async def test_python_and_pip_find_the_way_by_their_variables(here: World) -> None:
    url = f"https://a.wild.test:{here.safe.port}/"
    assert await here.run(sys.executable, "-c", FETCH, url) == (0, "hello\n")

    async def index(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del head, reader
        writer.write(body(b"<html></html>", b"Content-Type: text/html"))

    here.safe.reply = index
    _, said = await here.run(
        sys.executable, "-m", "pip", "download", "six", "--index-url", url, "--isolated",
        "--no-cache-dir", "--disable-pip-version-check", "--retries", "0",
    )  # fmt: skip
    assert "from versions: none" in said
    assert b"GET /six/ HTTP/1.1" in here.safe.heads[-1]


async def test_a_body_goes_both_ways(here: World) -> None:
    async def echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"transfer-encoding: chunked" in head.lower()
        got = b""
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            got += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(got), 5000):
            writer.write(b"%x\r\n%b\r\n" % (len(got[at : at + 5000]), got[at : at + 5000]))
        writer.write(b"0\r\n\r\n")

    here.web.reply = echo
    sent = os.urandom(300_000)
    (here.folder / "sent").write_bytes(sent)
    code, said = await here.curl(
        "-T", "sent", "-X", "POST", "-H", "Transfer-Encoding: chunked",
        "-H", "Expect: 100-continue", "-o", "got", f"http://{GOOD}:{here.web.port}/",
    )  # fmt: skip
    assert (code, said) == (0, "")
    assert (here.folder / "got").read_bytes() == sent


async def test_connections_to_hosts_are_kept(here: World) -> None:
    url = f"http://{GOOD}:{here.web.port}/"
    assert await here.curl(url, url, url) == (0, "hello" * 3)
    assert here.web.connections == 1
    assert len(here.web.heads) == 3


@pytest.mark.parametrize(
    ("request_line", "reason"),
    [
        ("CONNECT evil.test:443", "not_allowed"),
        ("CONNECT xup.test:443", "not_allowed"),
        ("CONNECT up.test.evil.test:443", "not_allowed"),
        ("CONNECT wild.test:443", "not_allowed"),
        ("CONNECT localhost:443", "not_allowed"),
        ("CONNECT c2VjcmV0.exfil.test:443", "not_allowed"),
        ("CONNECT up.test:22", "port"),
        ("CONNECT up.test:0", "port"),
        ("CONNECT up.test:65536", "port"),
        ("CONNECT 127.0.0.1:443", "ip_literal"),
        ("CONNECT 2130706433:443", "ip_literal"),
        ("CONNECT [::1]:443", "ip_literal"),
        ("CONNECT [::ffff:169.254.169.254]:80", "ip_literal"),
        ("CONNECT 169.254.169.254:80", "ip_literal"),
        ("CONNECT 127.0.0.1:3128", "ip_literal"),
        ("CONNECT up.test", "bad_request"),
        ("CONNECT user@up.test:443", "userinfo"),
        (f"CONNECT {INNER}:443", "address"),
        (f"CONNECT {META}:80", "address"),
        (f"CONNECT {META.upper()}.:80", "address"),
        ("GET http://evil.test/", "not_allowed"),
        ("GET http://up.test:8080/", "port"),
        ("GET http://up.test@evil.test/", "userinfo"),
        ("GET http://169.254.169.254/latest/meta-data/", "ip_literal"),
        ("GET http://0x7f.1/", "ip_literal"),
        (f"GET http://{META}/latest/meta-data/", "address"),
        ("GET https://up.test/", "scheme"),
        ("GET ftp://up.test/", "scheme"),
        ("GET /", "bad_request"),
        ("OPTIONS *", "bad_request"),
        ("GET //up.test/", "bad_request"),
    ],
)
async def test_what_is_not_allowed_is_refused_and_nothing_is_dialled(
    here: World, request_line: str, reason: str
) -> None:
    host = request_line.split()[1].removeprefix("http://").split("/")[0]
    said = await here.say(f"{request_line} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, content = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 egress denied: %b\r\n" % reason.encode())
    assert b"connection: close" in head
    told = json.loads(content)
    assert (told["error"], told["reason"]) == ("egress_denied", reason)
    assert told["message"]
    assert [row[1:] for row in await here.rows()] == [("denied", reason)]
    assert here.web.connections == here.safe.connections == 0


GOOD_HEAD = b"POST http://up.test:%d/ HTTP/1.1\r\nHost: up.test:%d\r\n"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "smuggling"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_request"),
        (b"Transfer-Encoding: chunked, identity\r\n\r\n", "bad_request"),
        (b"Transfer-Encoding: xchunked\r\n\r\n", "bad_request"),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "bad_request"),
        (b"Content-Length: 5, 6\r\n\r\nhello!", "bad_request"),
        (b"Content-Length: +5\r\n\r\nhello", "bad_request"),
        (b"Content-Length: -1\r\n\r\n", "bad_request"),
        (b"Host: evil.test\r\n\r\n", "bad_request"),
        (b"X y: z\r\n\r\n", "bad_request"),
        (b"X : y\r\n\r\n", "bad_request"),
        (b"X: a\x00b\r\n\r\n", "bad_request"),
        (b"X: " + b"y" * 40_000 + b"\r\n\r\n", "too_large"),
        (b"X: y\r\n" * 8000 + b"\r\n", "too_large"),
    ],
)
async def test_a_head_that_means_two_things_is_refused(
    here: World, more: bytes, reason: str
) -> None:
    port = here.web.port
    said = await here.say(GOOD_HEAD % (port, port) + more)
    assert said.startswith(b"HTTP/1.1 403 egress denied: %b\r\n" % reason.encode())
    assert here.web.connections == 0


@pytest.mark.parametrize(
    ("line", "host", "reason"),
    [
        (b"TRACE http://up.test:%d/", b"up.test:%d", "method"),
        (b"CONNECTX http://up.test:%d/", b"up.test:%d", "method"),
        (b"get http://up.test:%d/", b"up.test:%d", "method"),
        (b"GET http://up.test:%d/", b"evil.test:%d", "host_mismatch"),
        (b"GET http://up.test:%d/", b"up.test:1%d", "host_mismatch"),
        (b"GET http://up.test:%d/", b"up.test, evil.test:%d", "host_mismatch"),
        (b"GET http://up.test:%d/", b"evil@up.test:%d", "host_mismatch"),
    ],
)
async def test_odd_methods_and_other_hosts_are_refused(
    here: World, line: bytes, host: bytes, reason: str
) -> None:
    port = here.web.port
    said = await here.say(line % port + b" HTTP/1.1\r\nHost: " + host % port + b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 403 egress denied: %b\r\n" % reason.encode())
    assert here.web.connections == 0


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"SSH-2.0-x\r\n\r\n",
        b"GET http://up.test/\r\n\r\n",
        b"\r\n" * 9,
    ],
)
async def test_what_is_not_http_gets_nowhere(here: World, junk: bytes) -> None:
    reader, writer = await here.connect()
    writer.write(junk)
    writer.write_eof()
    async with asyncio.timeout(WAIT_S):
        said = await reader.read()
    writer.close()
    assert said == b"" or said.startswith(b"HTTP/1.1 403 egress denied: bad_request\r\n")
    assert here.web.connections == 0


async def test_what_is_for_the_proxy_stays_with_it(here: World) -> None:
    port = here.web.port
    said = await here.say(
        b"GET http://up.test:%d/ HTTP/1.1\r\nHost: UP.test.:%d\r\n" % (port, port),
        b"Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\n",
        b"Connection: close, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n",
        b"X-Kept: 1\r\n\r\n",
    )
    assert said.endswith(b"hello")
    (head,) = here.web.heads
    assert head == b"GET / HTTP/1.1\r\nhost: up.test:%d\r\nx-kept: 1\r\n\r\n" % port


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (hello_of("evil.test"), "sni_mismatch"),
        (hello_of("xup.test"), "sni_mismatch"),
        (hello_of(None), "no_sni"),
        (b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "not_tls"),
        (b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n", "not_tls"),
        (b"\x16\x03\x01\x40\x01", "not_tls"),
        (b"SSH-2.0-x\r\n", "not_tls"),
    ],
)
async def test_a_tunnel_is_for_tls_with_its_own_host(here: World, sent: bytes, reason: str) -> None:
    said = await here.tunnel(GOOD, here.safe.port, sent)
    assert said in (b"", b"\x15\x03\x03\x00\x02\x02\x31")
    assert (GOOD, "denied", reason) in await here.rows()
    assert here.safe.heads == []


async def test_bytes_sent_before_the_tunnel_is_there_are_checked_too(here: World) -> None:
    target = f"up.test:{here.safe.port}".encode()
    said = await here.say(
        b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n" + hello_of("evil.test")
    )
    assert said.startswith(b"HTTP/1.1 200 ")
    assert (GOOD, "denied", "sni_mismatch") in await here.rows()


async def test_the_first_denial_of_a_host_is_heard_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        request = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"
        await here.say(request)
        async with asyncio.timeout(WAIT_S):
            await here.heard.wait()
        await here.say(request)
        await here.say(request.replace(b"evil", b"worse"))
        async with asyncio.timeout(WAIT_S):
            while len(here.denied) < 2:
                here.heard.clear()
                await here.heard.wait()
        assert [row.host for row in here.denied] == ["evil.test", "worse.test"]
        assert here.denied[0] == EgressRow(
            host="evil.test", port=80, verdict="denied", reason="not_allowed"
        )
        rows = (await here.session.take()).rows
        assert [(row.host, row.connections) for row in rows] == [
            ("evil.test", 2),
            ("worse.test", 1),
        ]


async def test_a_redirect_to_a_denied_host_ends_there(here: World) -> None:
    """C16: redirect to a denied host, and to the metadata address."""
    for location in ("http://evil.test/", "http://169.254.169.254/latest/", f"http://{META}/"):

        async def redirect(
            head: bytes,
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            location: str = location,
        ) -> None:
            del head, reader
            writer.write(body(b"", b"Location: " + location.encode(), status=b"302 Found"))

        here.web.reply = redirect
        code, said = await here.curl("-fL", f"http://{GOOD}:{here.web.port}/")
        assert code == 22
        assert "403" in said
    assert [row[1:] for row in await here.rows()] == [
        ("allowed", ""),
        ("denied", "ip_literal"),
        ("denied", "not_allowed"),
        ("denied", "address"),
    ]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere.wild.test", "unresolved"),
        ("up.test", "unreachable"),
        ("up.test:443", "unreachable"),
    ],
)
async def test_a_host_that_is_allowed_and_not_there_is_a_failure(
    here: World, target: str, reason: str
) -> None:
    """Ports 80 and 443 of 127.0.0.9 have no server."""
    method = "CONNECT %s" if ":" in target else "GET http://%s/"
    said = await here.say(f"{method % target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 502 egress failed: %b\r\n" % reason.encode())
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"] == "egress_failed"
    assert await here.rows() == [(target.removesuffix(":443"), "failed", reason)]
    assert here.denied == []


async def test_an_answer_that_breaks_off_does_not_look_whole(here: World) -> None:
    async def broken(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del head, reader
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    here.web.reply = broken
    code, _ = await here.curl(f"http://{GOOD}:{here.web.port}/")
    assert code == 18  # a partial file
    assert (GOOD, "failed", "broken") in await here.rows()


async def test_a_tunnelled_host_shows_its_own_certificate(here: World) -> None:
    """No secret goes there, so nobody ends its TLS: only the authority outside is to be trusted."""
    url = f"https://{GOOD}:{here.safe.port}/"
    assert await here.curl("--cacert", "outside.pem", url) == (0, "hello")


async def test_many_connections_at_once_are_cut_off_by_number(tmp_path: Path) -> None:
    async with world(tmp_path, settings={"connections_max": 3}) as here:
        idle = [await here.connect() for _ in range(3)]
        said = await here.say(b"")
        assert said.startswith(b"HTTP/1.1 403 egress denied: connections\r\n")
        for _, writer in idle:
            writer.close()


async def test_who_dawdles_is_hung_up_on(tmp_path: Path) -> None:
    async with world(tmp_path, settings={"head_s": 0.3}) as here:
        said = await here.say(b"GET http://up.test/ HTTP/1.1\r\nHost: up")
        assert said.startswith(b"HTTP/1.1 403 egress denied: timeout\r\n")
        assert await here.say(b"") == b""  # who says nothing is not answered
        assert await here.tunnel(GOOD, here.safe.port, hello_of(GOOD)[:20]) != b""
        assert sorted(await here.rows()) == [
            ("-", "denied", "timeout"),
            (GOOD, "denied", "timeout"),
        ]


async def test_who_is_silent_in_a_tunnel_is_hung_up_on(tmp_path: Path) -> None:
    async with world(tmp_path, settings={"idle_s": 0.3}) as here:
        said = await here.tunnel(GOOD, here.safe.port, hello_of(GOOD))
        assert said.startswith(b"\x16\x03\x03")  # the host's part of the handshake came


async def flood(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del head, reader
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
    for _ in range(100):
        writer.write(bytes(100_000))
        await writer.drain()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_no_byte_over_the_limit_gets_through(tmp_path: Path, scheme: str) -> None:
    async with world(tmp_path, policy={"bytes_max": 1_000_000}) as here:
        host = here.web if scheme == "http" else here.safe
        host.reply = flood
        url = f"{scheme}://{GOOD}:{host.port}/"
        code, _ = await here.curl("-o", "got", url)
        assert code != 0
        assert (here.folder / "got").stat().st_size <= 1_000_000
        tally = await here.session.take()
        assert sum(row.bytes_in + row.bytes_out for row in tally.rows) <= 1_000_000
        assert [(row.verdict, row.reason) for row in tally.rows] == [
            ("allowed", ""),
            ("denied", "byte_limit"),
        ]
        said = await here.say(b"GET http://up.test/ HTTP/1.1\r\nHost: up.test\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 403 egress denied: byte_limit\r\n")


async def test_bytes_are_slowed_down_to_the_rate(tmp_path: Path) -> None:
    async with world(tmp_path, policy={"bytes_per_s": 5_000_000}) as here:
        here.web.reply = flood
        loop = asyncio.get_running_loop()
        began = loop.time()
        code, _ = await here.curl("-o", "got", f"http://{GOOD}:{here.web.port}/")
        assert code == 0
        # 10 MB at 5 MB/s, of which the first second's worth comes at once.
        assert loop.time() - began >= 0.95


async def test_a_flood_of_hosts_is_counted_in_little_memory(here: World) -> None:
    reader, writer = await here.connect()
    del reader
    writer.close()
    for number in range(700):
        said = await here.say(b"CONNECT h%d.evil.test:443 HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        assert said.startswith(b"HTTP/1.1 403 ")
    await here.curl(f"http://{GOOD}:{here.web.port}/")
    rows = (await here.session.take()).rows
    assert sum(row.connections for row in rows) == 701
    assert len(rows) == 502  # 500 denied hosts, all others together, and the one that is allowed
    others = [row for row in rows if row.host == "other"]
    assert [(row.port, row.connections) for row in others] == [(0, 200)]
    assert len(here.denied) <= 100
