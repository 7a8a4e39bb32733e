"""One real server for the test cases of the library; each test has streams of its own."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from eventlog.embedded.server import EmbeddedServer
from eventlog.recorders.hosted import Hosted
from tests.contract.recorders.base import OnJetStream

TOKEN = "only-for-tests"
NUMBERS = count(1)


@pytest.fixture(scope="package")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A server that runs for all of these tests."""
    folder = tmp_path_factory.mktemp("recorders") / "nats"

    @asynccontextmanager
    async def running() -> AsyncGenerator[EmbeddedServer]:
        async with EmbeddedServer(folder, durability="process", token=TOKEN) as server:
            yield server

    hosted = Hosted(running, name="server")

    async def url(server: EmbeddedServer) -> str:
        return server.url

    yield hosted.call(url)
    hosted.close()


@pytest.fixture
def environment(server_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What an application of the library is configured with, in `os.environ` too."""
    env = {
        "PERSISTENCE_MODULE": "eventlog.recorders.jetstream",
        "JETSTREAM_URL": server_url,
        "JETSTREAM_TOKEN": TOKEN,
        "JETSTREAM_PREFIX": f"t{next(NUMBERS)}",
        "JETSTREAM_DURABILITY": "process",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture(autouse=True)
def on_jetstream(request: pytest.FixtureRequest, environment: dict[str, str]) -> Generator[None]:
    """Give the library's test cases what to connect to, and close what they made."""
    if isinstance(request.instance, OnJetStream):
        request.instance.prepare(environment)
        yield
        request.instance.finish()
    else:
        yield
