"""A proxy process, hosts to reach through it, and a listener such as a sandbox has. Not tests.

The hosts are real servers on the loopback interface, which the operator of this world allows.
"""

import asyncio
import datetime
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.sandbox import EgressRow, SecretGrant
from services.sandbox.egress.broker import Broker, Prepared, Session
from services.sandbox.egress.environment import PROXY
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.port import FILES_FOLDER
from services.secrets.config import SecretsConfig

WAIT_S = 20.0
NAMES = ("up.test", "api.test", "a.wild.test")
GOOD, INNER, META = "up.test", "inner.test", "meta.test"

Reply = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def body(data: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(data), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + data


async def greet(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del head, reader
    writer.write(body(b"hello"))


@dataclass
class Host:
    """A server outside: what it was asked, and how it answers."""

    port: int = 0
    reply: Reply = greet
    connections: int = 0
    heads: list[bytes] = field(default_factory=list[bytes])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                await self.reply(head, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@dataclass
class World:
    """What a test has."""

    broker: Broker
    prepared: Prepared
    session: Session
    listener: socket.socket
    web: Host  # http
    safe: Host  # https
    folder: Path
    denied: list[EgressRow]
    heard: asyncio.Event

    @property
    def proxy(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def env(self) -> dict[str, str]:
        """What a program in the sandbox has, with our listener and folder for its."""
        return {
            name: value.replace(PROXY, self.proxy).replace(FILES_FOLDER, str(self.folder))
            for name, value in self.prepared.env.items()
        } | {"PATH": os.environ["PATH"], "HOME": str(self.folder)}

    async def forget(self) -> None:
        """As if nothing had happened."""
        await self.session.take()
        self.denied.clear()
        for host in (self.web, self.safe):
            host.connections, host.reply = 0, greet
            host.heads.clear()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.listener.getsockname())

    async def say(self, *pieces: bytes) -> bytes:
        """Send bytes to the proxy, and read until it hangs up."""
        reader, writer = await self.connect()
        async with asyncio.timeout(WAIT_S):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                return await reader.read()
            finally:
                writer.close()

    async def run(self, *argv: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a program as in the sandbox; its exit code, and what it said."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**self.env, **(env or {})},
            cwd=self.folder,
        )
        async with asyncio.timeout(WAIT_S):
            said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async def curl(self, *args: str) -> tuple[int, str]:
        return await self.run("curl", "-sS", *args)

    async def rows(self) -> list[tuple[str, str, str]]:
        return [(row.host, row.verdict, row.reason) for row in (await self.session.take()).rows]

    async def tunnel(self, host: str, port: int, sent: bytes) -> bytes:
        """What comes back through a tunnel for these bytes, after it was established."""
        reader, writer = await self.connect()
        async with asyncio.timeout(WAIT_S):
            try:
                writer.write(b"CONNECT %b:%d HTTP/1.1\r\n" % (host.encode(), port))
                writer.write(b"Host: %b:%d\r\n\r\n" % (host.encode(), port))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                writer.write(sent)
                return await reader.read()
            finally:
                writer.close()


@asynccontextmanager
async def world(
    folder: Path,
    *,
    secrets: Mapping[str, str] | None = None,
    grants: tuple[SecretGrant, ...] = (),
    policy: Mapping[str, object] | None = None,
    settings: Mapping[str, object] | None = None,
) -> AsyncGenerator[World]:
    """A world in which `*.test` names are hosts of ours."""
    web, safe = Host(), Host()
    context = certificates(folder)
    vault = folder / "vault"
    vault.mkdir()
    for name, value in (secrets or {}).items():
        (vault / name).write_text(value)
        (vault / name).chmod(0o600)
    async with AsyncExitStack() as stack:
        web.port = await _serve(stack, web)
        safe.port = await _serve(stack, safe, context)
        broker = Broker(
            EgressSettings.model_validate(
                {
                    "ports": (443, 80, web.port, safe.port),
                    "allow_cidrs": ("127.0.0.0/8",),
                    "hosts": {
                        **dict.fromkeys((*NAMES, "forged.wild.test"), "127.0.0.1"),
                        INNER: "10.1.2.3",
                        META: "169.254.169.254",
                    },
                    "extra_ca_file": str(folder / "outside.pem"),
                    "secrets": SecretsConfig(environment=False, folders=(str(vault),)),
                    **(settings or {}),
                }
            ),
            await stack.enter_async_context(asyncio.TaskGroup()),
        )
        stack.push_async_callback(broker.close)
        prepared = await broker.prepare(
            EgressPolicy.model_validate(
                {
                    "domains": ("up.test", "api.test", "*.wild.test", INNER, META),
                    "secrets": grants,
                    **(policy or {}),
                }
            )
        )
        for name, data in prepared.files.items():
            (folder / name).write_bytes(data)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        denied: list[EgressRow] = []
        heard = asyncio.Event()

        async def on_denied(row: EgressRow) -> None:
            denied.append(row)
            heard.set()

        session = await broker.attach(prepared, listener, on_denied)
        stack.push_async_callback(session.close)
        yield World(broker, prepared, session, listener, web, safe, folder, denied, heard)


async def _serve(stack: AsyncExitStack, host: Host, context: ssl.SSLContext | None = None) -> int:
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0, ssl=context)
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


def certificates(folder: Path, names: tuple[str, ...] = NAMES) -> ssl.SSLContext:
    """An authority outside, in `outside.pem`, and what its hosts serve TLS with."""
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "outside")])

    def certificate(name: x509.Name, *hosts: str) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(root)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=365 * 50))
            .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
        )
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "outside.pem").write_bytes(certificate(root))
    leaf = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host")])
    (folder / "host.pem").write_bytes(secret + certificate(leaf, *names))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem")
    return context
