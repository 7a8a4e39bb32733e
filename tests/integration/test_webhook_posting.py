"""Webhooks over real HTTP: who is reached, and what is followed. Not what they are told."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from domain.errors import Unavailable
from peritus.posting import posting
from peritus.settings import Settings
from tests.contract.deployment import BOUND_S

pytestmark = pytest.mark.anyio

HERE = Settings(webhook_allow_cidrs=("127.0.0.0/8",))


@dataclass
class Program:
    """A program that takes one request a connection and answers so."""

    answer: bytes
    url: str = ""
    got: list[bytes] = field(default_factory=list[bytes])

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.got.append(head + await reader.readexactly(length))
        writer.write(self.answer)
        if self.answer:
            writer.close()
        else:
            await reader.read()  # never an answer: until the other end hangs up
            writer.close()


@asynccontextmanager
async def program(answer: bytes) -> AsyncGenerator[Program]:
    made = Program(answer)
    server = await asyncio.start_server(made.take, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/in"
        yield made


def answer(status: str, *lines: str) -> bytes:
    text = "\r\n".join((f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *lines))
    return f"{text}\r\n\r\n".encode()


async def test_a_delivery_arrives_as_it_was_sent() -> None:
    async with program(answer("204 No Content")) as there, posting(HERE) as post:
        status = await post(there.url, {"Peritus-Delivery": "a0-1-0"}, b'{"run":"j1"}')
    assert status == 204
    (request,) = there.got
    assert request.startswith(b"POST /in HTTP/1.1\r\n")
    assert b"peritus-delivery: a0-1-0\r\n" in request.lower()
    assert request.endswith(b'\r\n\r\n{"run":"j1"}')


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with program(answer("200 OK")) as target:
        moved = answer("302 Found", f"Location: {target.url}")
        async with program(moved) as there, posting(HERE) as post:
            assert await post(there.url, {}, b"{}") == 302
    assert target.got == []


async def test_a_receiver_that_never_answers_is_given_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("peritus.posting.ANSWER_S", 0.1)
    async with program(b"") as there, posting(HERE) as post, asyncio.timeout(BOUND_S):
        with pytest.raises(Unavailable):
            await post(there.url, {}, b"{}")
    assert len(there.got) == 1


async def test_nonsense_in_place_of_an_answer_is_none() -> None:
    async with program(b"nonsense\r\n\r\n") as there, posting(HERE) as post:
        with pytest.raises(Unavailable):
            await post(there.url, {}, b"{}")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "0.0.0.0"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_address_that_is_not_public_is_not_dialled(scheme: str, host: str) -> None:
    async with program(answer("200 OK")) as there, posting(Settings()) as post:
        port = there.url.rsplit(":")[-1].removesuffix("/in")
        with pytest.raises(Unavailable, match="PERITUS_WEBHOOK_ALLOW_CIDRS"):
            await post(f"{scheme}://{host}:{port}/in", {}, b"{}")
    assert there.got == []


async def test_nobody_there_is_said() -> None:
    async with program(b"") as there:
        pass
    async with posting(HERE) as post:
        with pytest.raises(Unavailable):
            await post(there.url, {}, b"{}")
        with pytest.raises(Unavailable, match="https"):
            await post("ftp://example.com", {}, b"{}")
