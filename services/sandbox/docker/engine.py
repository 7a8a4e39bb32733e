"""The Docker Engine through its SDK, off the event loop. Not what a sandbox is made of."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import docker  # type: ignore[import-untyped]
import docker.errors  # type: ignore[import-untyped]
import requests

from services.sandbox.failures import SandboxUnavailable

DEFAULT_HOST = "unix:///var/run/docker.sock"
ENGINE_S = 60.0
"""How long the engine may take to answer, in seconds."""

THREADS = 8

Result = TypeVar("Result")
Facts = dict[str, Any]


class EngineError(SandboxUnavailable):
    """The engine says no, or nothing; `status` is that of HTTP, 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Api(Protocol):
    """What we use of `docker.APIClient`, which has no types of its own."""

    api_version: str

    def info(self) -> Facts:
        """What the engine is."""
        ...

    def version(self) -> Facts:
        """Which it is."""
        ...

    def inspect_image(self, image: str) -> Facts:
        """An image that is there."""
        ...

    def pull(self, repository: str, *, stream: bool, decode: bool) -> Iterator[Facts]:
        """Fetch an image; how far it is, and what goes wrong."""
        ...

    def create_host_config(self, **settings: object) -> Facts:
        """The SDK's form of settings."""
        ...

    def create_container(self, image: str, command: list[str], **settings: object) -> Facts:
        """Make a container."""
        ...

    def start(self, container: str) -> None:
        """Start it."""
        ...

    def pause(self, container: str) -> None:
        """Freeze it."""
        ...

    def unpause(self, container: str) -> None:
        """Thaw it."""
        ...

    def inspect_container(self, container: str) -> Facts:
        """What there is to know of it."""
        ...

    def containers(self, *, all: bool, filters: Facts) -> list[Facts]:  # noqa: A002
        """Those there are."""
        ...

    def remove_container(self, container: str, *, v: bool, force: bool) -> None:
        """End and remove it."""
        ...

    def exec_create(
        self, container: str, cmd: list[str], *, stdin: bool, user: str, workdir: str
    ) -> Facts:
        """Prepare a process in it."""
        ...

    def exec_inspect(self, exec_id: str) -> Facts:
        """What became of that process."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Engine:
    """One engine; blocking calls run in threads of its own."""

    def __init__(self, host: str | None = None) -> None:
        """Say where it is; nothing is asked of it yet.

        Raises:
            SandboxUnavailable: the address is not one we can speak to.
        """
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._address = urlsplit(self.host)
        if self._address.scheme not in {"unix", "tcp"}:
            message = f"an engine at {self.host!r} is not supported: give unix:///... or tcp://..."
            raise SandboxUnavailable(message)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._api: Api | None = None

    @property
    def local(self) -> bool:
        """Whether it can be on this machine; what it says of processes decides."""
        return self._address.scheme == "unix"

    @property
    def api(self) -> Api:
        """The SDK's client, for calls in a thread.

        Raises:
            EngineError: no engine answers.
        """
        if self._api is None:
            try:
                self.connect().close()  # the SDK does not close a connection that fails
                client: Any = cast("Any", docker).APIClient(
                    base_url=self.host, version="auto", timeout=ENGINE_S
                )
            except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                message = (
                    f"no Docker Engine answers at {self.host}: {error}; start one, or set "
                    "DOCKER_HOST to where it listens"
                )
                raise EngineError(message) from error
            self._api = cast("Api", client)
        return self._api

    async def call(self, work: Callable[[Api], Result]) -> Result:
        """Ask the engine something, in a thread. Cancelling does not undo what it began.

        Raises:
            EngineError: it refuses, or does not answer.
        """
        return await self.begin(work)

    def begin(self, work: Callable[[Api], Result]) -> "asyncio.Future[Result]":
        """As `call`, without waiting."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self.ask, work)

    def ask(self, work: Callable[[Api], Result]) -> Result:
        """As `call`, in the calling thread."""
        try:
            return work(self.api)
        except docker.errors.APIError as error:
            raise _engine_error(error) from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            message = f"the Docker Engine at {self.host} does not answer: {error}"
            raise EngineError(message) from error

    def connect(self) -> socket.socket:
        """A connection of its own, for a stream.

        Raises:
            OSError: nobody listens.
        """
        if self._address.scheme == "tcp":
            port = self._address.port or 2375
            return socket.create_connection((self._address.hostname or "", port), ENGINE_S)
        opened = socket.socket(socket.AF_UNIX)
        try:
            opened.settimeout(ENGINE_S)
            opened.connect(self._address.path)
        except OSError:
            opened.close()
            raise
        return opened

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._api is not None:
            with contextlib.suppress(Exception):
                self._api.close()


def _engine_error(error: Exception) -> EngineError:
    response = getattr(error, "response", None)
    said = getattr(error, "explanation", None) or str(error)
    return EngineError(f"the Docker Engine refuses: {said}", getattr(response, "status_code", 0))
