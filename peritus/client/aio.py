"""The client that awaits. Not the logic: `calls`, `exchange` and `following` have that."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx2

from domain.errors import Unavailable
from peritus.client import calls
from peritus.client.backoff import RECONNECTS_MAX
from peritus.client.core import (
    REQUEST_S,
    Setup,
    away,
    build,
    follower,
    is_stream,
    reply_of,
    set_up,
)
from peritus.client.exchange import Call, Reply, Send, Steps, Wait, exchange
from peritus.client.following import SILENCE_S, Follower
from peritus.client.frames import Frame
from peritus.client.results import RESTS, Rest, Result

P = ParamSpec("P")
T = TypeVar("T")


class Asks(Generic[P, T]):
    """A method that sends what a function of `calls` makes of its arguments."""

    def __init__(self, make: Callable[P, Call[T]]) -> None:
        self._make = make

    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, Call[T]]: ...

    @overload
    def __get__(
        self, client: "AsyncClient", owner: type
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(
        self, client: "AsyncClient | None", owner: type
    ) -> Callable[P, Call[T]] | Callable[P, Coroutine[Any, Any, T]]:
        """Of the class: the function, with its signature and what it says."""
        make = self._make
        if client is None:
            return make

        async def asks(*args: P.args, **kwargs: P.kwargs) -> T:
            return await client.send(make(*args, **kwargs))

        return asks


class AsyncClient:
    """Asks a gateway; one for a whole program. Its methods are the functions of `calls`."""

    def __init__(  # noqa: PLR0913 - what a client may be given
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        state_dir: Path | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] | None = None,
        new_id: Callable[[], str] | None = None,
        request_s: float = REQUEST_S,
        silence_s: float = SILENCE_S,
        reconnects_max: int = RECONNECTS_MAX,
    ) -> None:
        """Ask the gateway at `url`, by default the one of this machine, with its key.

        A key that is not given is read from `gateway.key` in the state folder if the gateway is on
        this machine: in `state_dir`, or in the nearest `.peritus`. A stream that is silent for
        `silence_s` connects again, and fails after `reconnects_max` times in a row without news.
        """
        self._setup: Setup = set_up(
            url,
            key,
            state_dir,
            new_id=new_id,
            jitter=jitter,
            request_s=request_s,
            silence_s=silence_s,
            reconnects_max=reconnects_max,
        )
        self._sleep = sleep
        self._http = httpx2.AsyncClient(
            limits=self._setup.limits, trust_env=self._setup.trusts_environment
        )

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections; it cannot be used after."""
        await self._http.aclose()

    me = Asks(calls.me)
    experts = Asks(calls.experts)
    start = Asks(calls.start)
    get = Asks(calls.get)
    list = Asks(calls.list_runs)
    jobs = Asks(calls.jobs)
    job = Asks(calls.job)
    tree = Asks(calls.tree)
    activities = Asks(calls.activities)
    steps = Asks(calls.steps)
    tool_calls = Asks(calls.tool_calls)
    checkpoints = Asks(calls.checkpoints)
    continue_ = Asks(calls.continue_)
    waiting = Asks(calls.waiting)
    answer = Asks(calls.answer)
    approve = Asks(calls.approve)
    deny = Asks(calls.deny)
    steer = Asks(calls.steer)
    pause = Asks(calls.pause)
    resume = Asks(calls.resume)
    cancel = Asks(calls.cancel)
    fork = Asks(calls.fork)
    search = Asks(calls.search)
    usage = Asks(calls.usage)
    upload = Asks(calls.upload)
    download = Asks(calls.download)
    files = Asks(calls.files)
    download_file = Asks(calls.download_file)

    async def send(self, call: Call[T]) -> T:
        """Send what a function of `calls` made, again if need be.

        Raises:
            PeritusError: it was refused, or is not answered.
        """
        return await self._drive(exchange(call, self._setup.habits))

    async def stream(
        self,
        run: calls.RunName | None = None,
        *,
        job: str | None = None,
        after: str | None = None,
        live: bool = False,
        follow: bool = False,
        types: Sequence[str] = (),
        only: Sequence[calls.RunName] = (),
    ) -> AsyncGenerator[Frame]:
        """What happens in a run, else in a job, else to the tenant; it connects again by itself.

        Each event comes once and in order. It goes on `after` a cursor, by default from the first
        event; `live` adds replies and outputs in the making. It ends with the run or the root of
        the job, unless it is to `follow`. `types` are names of events, or beginnings that end in a
        dot; `only` are runs. Close it (`contextlib.aclosing`) when you leave it early.

        Raises:
            PeritusError: it was refused, or the gateway stays away.
        """
        wanted = follower(
            self._setup,
            run,
            job=job,
            after=after,
            live=live,
            follow=follow,
            types=types,
            only=only,
        )
        while not wanted.done:
            async with aclosing(self._connection(wanted)) as frames:
                async for frame in frames:
                    yield frame

    async def result(self, run: calls.RunName) -> Result:
        """Wait until a run is at rest; how it came to that.

        Raises:
            PeritusError: it was refused, or the gateway stays away.
        """
        rest = Rest(calls.run_name(run))
        async with aclosing(self.stream(run, types=RESTS)) as frames:
            async for frame in frames:
                rest.hear(frame)
        return await self._drive(rest.result(self._setup.habits))

    async def _connection(self, wanted: Follower) -> AsyncGenerator[Frame]:
        """What one connection tells, and the wait after it."""
        request = build(wanted.request(), self._setup, wanted.headers)
        try:
            response = await self._http.send(request, stream=True)
            try:
                if not is_stream(response):
                    delay = wanted.refused(reply_of(response, await response.aread()))
                else:
                    wanted.opened()
                    async for data in response.aiter_raw():
                        for frame in wanted.feed(data):
                            yield frame
                    delay = wanted.lost()
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            delay = wanted.lost(away(error))
        if not wanted.done:
            await self._sleep(delay)

    async def _drive(self, steps: Steps[T]) -> T:
        """Do what has to be done, one by one, until there is an answer."""
        got: Reply | Unavailable | None = None
        while True:
            try:
                act = steps.send(got)
            except StopIteration as end:
                answer: T = end.value
                return answer
            got = await self._act(act)

    async def _act(self, act: Send | Wait) -> Reply | Unavailable | None:
        if isinstance(act, Wait):
            await self._sleep(act.seconds)
            return None
        try:
            response = await self._http.send(build(act.call, self._setup))
        except httpx2.TransportError as error:
            return away(error)
        return reply_of(response, response.content)
