"""Both forms of the client behind one face, so that every test is of both. Not the client."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal

from peritus.client import AsyncClient, Client, Frame, Result

FormName = Literal["awaiting", "blocking"]
FORMS: tuple[FormName, ...] = ("awaiting", "blocking")


class Form:
    """Methods of a client by name, to be awaited."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self.client, name)
        if isinstance(self.client, AsyncClient):
            return method  # type: ignore[no-any-return]

        async def asks(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return asks

    async def result(self, run: Any) -> Result:
        if isinstance(self.client, AsyncClient):
            return await self.client.result(run)
        return await asyncio.to_thread(self.client.result, run)

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Frame]:
        if isinstance(self.client, AsyncClient):
            async with aclosing(self.client.stream(*args, **kwargs)) as frames:
                async for frame in frames:
                    yield frame
            return
        found = self.client.stream(*args, **kwargs)
        try:
            while (one := await asyncio.to_thread(next, found, None)) is not None:
                yield one
        finally:
            await asyncio.to_thread(found.close)

    async def told(self, *args: Any, **kwargs: Any) -> list[Frame]:
        """All of a stream."""
        return [frame async for frame in self.stream(*args, **kwargs)]


@asynccontextmanager
async def opened(
    form: FormName, url: str, key: str | None = None, **more: Any
) -> AsyncGenerator[Form]:
    """A client of that form; it never waits."""

    async def no_time(_: float) -> None:
        await asyncio.sleep(0)

    if form == "awaiting":
        async with AsyncClient(url, key, sleep=no_time, **more) as client:
            yield Form(client)
    else:
        with Client(url, key, sleep=lambda _: None, **more) as blocking:
            yield Form(blocking)
