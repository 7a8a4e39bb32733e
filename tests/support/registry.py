"""A registry of packages on this machine: enough of npm's and PyPI's for their own clients."""

import asyncio
import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from services.sandbox.egress.policy import EgressSettings
from services.sandbox.packages.settings import PackageSettings

NAME = "registry.test"


@dataclass
class Registry:
    """What it serves, by path, and what it was asked for."""

    port: int = 0
    served: dict[str, bytes] = field(default_factory=dict[str, bytes])
    asked: list[str] = field(default_factory=list[str])
    silent: bool = False  # it takes questions and answers none
    stuck: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where sandboxes find it."""
        return f"http://{NAME}:{self.port}"

    @property
    def settings(self) -> PackageSettings:
        """How an operator says that packages come from it."""
        return PackageSettings(
            npm_registry=f"{self.url}/",
            pypi_index=f"{self.url}/simple/",
            pypi_hosts=(),
            allow_cidrs=("127.0.0.0/8",),
            timeout_s=60.0,
        )

    @property
    def egress(self) -> EgressSettings:
        """How its name is found."""
        return EgressSettings(hosts={NAME: "127.0.0.1"})

    def fetched(self, part: str) -> int:
        """How often something with that in its path was asked for."""
        return sum(part in path for path in self.asked)

    def add_npm(self, name: str, version: str, files: Mapping[str, str], **said: object) -> None:
        """Publish an npm package; the newest that was published is the latest."""
        manifest = {"name": name, "version": version, **said}
        packed = _tarball({"package.json": json.dumps(manifest), **files})
        path = f"/files/{name.replace('/', '-')}-{version}.tgz"
        self.served[path] = packed
        digest = base64.b64encode(hashlib.sha512(packed).digest()).decode()
        dist = {"tarball": f"{self.url}{path}", "integrity": f"sha512-{digest}"}
        document = json.loads(self.served.get(f"/{name}", b'{"versions": {}}'))
        document |= {"name": name, "dist-tags": {"latest": version}}
        document["versions"][version] = {**manifest, "dist": dist}
        self.served[f"/{name}"] = json.dumps(document).encode()

    def add_pypi(
        self, name: str, version: str, files: Mapping[str, str], scripts: Mapping[str, str]
    ) -> None:
        """Publish a wheel."""
        file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        packed = _wheel(name, version, files, scripts)
        self.served[f"/files/{file}"] = packed
        page = self.served.get(f"/simple/{name}/", b"<!DOCTYPE html>")
        link = f'<a href="/files/{file}#sha256={hashlib.sha256(packed).hexdigest()}">{file}</a>'
        self.served[f"/simple/{name}/"] = page + link.encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            while self.silent:
                self.stuck.set()
                if not await reader.read(1024):
                    return
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = unquote(head.split(b" ")[1].decode())
                self.asked.append(path)
                body = self.served.get(path)
                status = "404 Not Found" if body is None else "200 OK"
                kind = "text/html" if path.startswith("/simple/") else "application/json"
                size = len(body or b"")
                lines = (f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {size}")
                writer.write("\r\n".join((*lines, "", "")).encode() + (body or b""))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def registry() -> AsyncGenerator[Registry]:
    """A registry with nothing in it."""
    made = Registry()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def _tarball(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            data = text.encode()
            member.size, member.mode = len(data), 0o600
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _wheel(name: str, version: str, files: Mapping[str, str], scripts: Mapping[str, str]) -> bytes:
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    points = "".join(f"{script} = {target}\n" for script, target in scripts.items())
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{points}",
    }
    record = "".join(f"{path},,\n" for path in (*whole, f"{info}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in {**whole, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)
    return packed.getvalue()
