"""The client that blocks: a line for each of `aio`. The logic is where that one has it."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar, overload

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
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...

    def __get__(
        self, client: "Client | None", owner: type
    ) -> Callable[P, Call[T]] | Callable[P, T]:
        """Of the class: the function, with its signature and what it says."""
        make = self._make
        if client is None:
            return make

        def asks(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.send(make(*args, **kwargs))

        return asks


class Client:
    """Asks a gateway; one for a whole program. Its methods are the functions of `calls`."""

    def __init__(  # noqa: PLR0913 - what a client may be given
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        state_dir: Path | None = None,
        sleep: Callable[[float], None] = time.sleep,
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
        self._http = httpx2.Client(
            limits=self._setup.limits, trust_env=self._setup.trusts_environment
        )

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close its connections."""
        self.close()

    def close(self) -> None:
        """Close its connections; it cannot be used after."""
        self._http.close()

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

    def send(self, call: Call[T]) -> T:
        """Send what a function of `calls` made, again if need be.

        Raises:
            PeritusError: it was refused, or is not answered.
        """
        return self._drive(exchange(call, self._setup.habits))

    def stream(
        self,
        run: calls.RunName | None = None,
        *,
        job: str | None = None,
        after: str | None = None,
        live: bool = False,
        follow: bool = False,
        types: Sequence[str] = (),
        only: Sequence[calls.RunName] = (),
    ) -> Generator[Frame]:
        """What happens in a run, else in a job, else to the tenant; it connects again by itself.

        Each event comes once and in order. It goes on `after` a cursor, by default from the first
        event; `live` adds replies and outputs in the making. It ends with the run or the root of
        the job, unless it is to `follow`. `types` are names of events, or beginnings that end in a
        dot; `only` are runs. Close it (`contextlib.closing`) when you leave it early.

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
            with closing(self._connection(wanted)) as frames:
                yield from frames

    def result(self, run: calls.RunName) -> Result:
        """Wait until a run is at rest; how it came to that.

        Raises:
            PeritusError: it was refused, or the gateway stays away.
        """
        rest = Rest(calls.run_name(run))
        with closing(self.stream(run, types=RESTS)) as frames:
            for frame in frames:
                rest.hear(frame)
        return self._drive(rest.result(self._setup.habits))

    def _connection(self, wanted: Follower) -> Generator[Frame]:
        """What one connection tells, and the wait after it."""
        request = build(wanted.request(), self._setup, wanted.headers)
        try:
            response = self._http.send(request, stream=True)
            try:
                if not is_stream(response):
                    delay = wanted.refused(reply_of(response, response.read()))
                else:
                    wanted.opened()
                    for data in response.iter_raw():
                        yield from wanted.feed(data)
                    delay = wanted.lost()
            finally:
                response.close()
        except httpx2.TransportError as error:
            delay = wanted.lost(away(error))
        if not wanted.done:
            self._sleep(delay)

    def _drive(self, steps: Steps[T]) -> T:
        """Do what has to be done, one by one, until there is an answer."""
        got: Reply | Unavailable | None = None
        while True:
            try:
                act = steps.send(got)
            except StopIteration as end:
                answer: T = end.value
                return answer
            got = self._act(act)

    def _act(self, act: Send | Wait) -> Reply | Unavailable | None:
        if isinstance(act, Wait):
            self._sleep(act.seconds)
            return None
        try:
            response = self._http.send(build(act.call, self._setup))
        except httpx2.TransportError as error:
            return away(error)
        return reply_of(response, response.content)
