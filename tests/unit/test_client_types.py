"""What type checkers know of both clients: methods take and answer what `calls` says."""

import inspect
from collections.abc import AsyncGenerator, Generator
from typing import assert_type

import pytest

from gateway.models.common import Accepted
from gateway.models.rest import Hits, Uploaded
from gateway.models.runs import Checkpoints, Jobs, Run, Runs, Waits
from peritus.client import AsyncClient, Client, Frame, Result, calls
from peritus.client.aio import Asks
from peritus.client.blocking import Asks as BlockingAsks


async def awaiting(client: AsyncClient) -> None:
    """Never run: checked by mypy and pyright."""
    started = await client.start("clerk", "Go", limits={"steps_max": 3}, key="k1")
    assert_type(started, Accepted)
    assert_type(await client.get(started), Run)
    assert_type(await client.list(status="running", limit=3), Runs)
    assert_type(await client.jobs(), Jobs)
    waiting = await client.waiting(started.run)
    assert_type(waiting, Waits)
    assert_type(await client.approve(waiting.waiting[0], remember="tool"), Accepted)
    assert_type(await client.answer(waiting.waiting[0], "blue"), Accepted)
    assert_type(await client.checkpoints(started), Checkpoints)
    assert_type(await client.fork(started, 1, results={"c1-0": "x"}), Accepted)
    assert_type(await client.search("words"), Hits)
    assert_type(await client.upload(b"x"), Uploaded)
    assert_type(await client.download("0" * 64), bytes)
    assert_type(client.stream(started, live=True), AsyncGenerator[Frame, None])
    assert_type(await client.result(started), Result)
    await client.start("clerk", nonsense=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.approve("c1-0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def blocking(client: Client) -> None:
    """Never run: checked by mypy and pyright."""
    started = client.start("clerk", "Go", limits={"steps_max": 3}, key="k1")
    assert_type(started, Accepted)
    assert_type(client.get(started), Run)
    assert_type(client.waiting(started), Waits)
    assert_type(client.stream(started, live=True), Generator[Frame, None, None])
    assert_type(client.result(started), Result)
    client.pause(started, 1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


def table(client: type, asks: type) -> dict[str, object]:
    return {name: getattr(client, name) for name, one in vars(client).items() if type(one) is asks}


def test_both_clients_ask_the_same_and_everything_there_is() -> None:
    known = {
        one
        for name, one in vars(calls).items()
        if inspect.isfunction(one)
        and one.__module__ == calls.__name__
        and not name.startswith("_")
        and name != "run_name"
    }
    assert table(AsyncClient, Asks) == table(Client, BlockingAsks)
    assert set(table(Client, BlockingAsks).values()) == known


@pytest.mark.parametrize("client", [AsyncClient, Client])
def test_methods_say_what_they_do_and_take(client: type) -> None:
    assert (inspect.getdoc(client.start) or "").startswith("Start an expert")  # type: ignore[attr-defined]
    assert "limits" in inspect.signature(client.start).parameters  # type: ignore[attr-defined]
