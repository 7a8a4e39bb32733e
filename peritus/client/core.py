"""What both forms of the client are made of: settings, headers, streams. Not input or output."""

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from domain.errors import Unavailable
from gateway.models.common import Accepted
from peritus.client.backoff import RECONNECTS_MAX
from peritus.client.calls import RunName, run_name
from peritus.client.exchange import Call, Habits, Reply
from peritus.client.finding import URL, find_key, is_loopback
from peritus.client.following import EVENTS_TYPE, SILENCE_S, Follower, Stream

REQUEST_S = 30.0
CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Setup:
    """Where and how a gateway is asked. Clock-like things are arguments, so that tests have theirs.

    `silence_s`: after how long without a byte a stream connects again.
    """

    url: str
    key: str | None
    habits: Habits
    request_s: float = REQUEST_S
    silence_s: float = SILENCE_S
    reconnects_max: int = RECONNECTS_MAX

    @property
    def headers(self) -> dict[str, str]:
        """Those of every request."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    @property
    def trusts_environment(self) -> bool:
        """Whether proxies of the environment are used: never to oneself."""
        return not is_loopback(self.url)

    @property
    def request_timeout(self) -> httpx2.Timeout:
        """That of a request."""
        return httpx2.Timeout(self.request_s, connect=CONNECT_S)

    @property
    def stream_timeout(self) -> httpx2.Timeout:
        """That of a stream: how long it may be silent."""
        return httpx2.Timeout(self.silence_s, connect=CONNECT_S, pool=CONNECT_S)

    @property
    def limits(self) -> httpx2.Limits:
        """Every stream holds a connection, so there is no limit here."""
        return httpx2.Limits(max_connections=None)


def set_up(
    url: str | None,
    key: str | None,
    state_dir: Path | None,
    *,
    new_id: Callable[[], str] | None,
    jitter: Callable[[], float] | None,
    request_s: float,
    silence_s: float,
    reconnects_max: int,
) -> Setup:
    """A client's settings with all that was not given."""
    where = (URL if url is None else url).rstrip("/")
    known = find_key(where, state_dir) if key is None else key
    habits = Habits(new_id or fresh_id, jitter or random.random)
    return Setup(where, known, habits, request_s, silence_s, reconnects_max)


def fresh_id() -> str:
    """A name that nobody else makes."""
    return secrets.token_hex(16)


def follower(
    setup: Setup,
    run: RunName | None,
    *,
    job: str | None,
    after: str | None,
    live: bool,
    follow: bool,
    types: Sequence[str],
    only: Sequence[RunName],
) -> Follower:
    """What follows the stream of a run, else of a job, else of the tenant."""
    query: dict[str, str | int | list[str]] = {}
    if live:
        query["live"] = 1
    if follow and (run is not None or job is not None):  # the tenant's stream does anyhow
        query["follow"] = 1
    if types:
        query["types"] = ",".join(types)
    if only:
        query["run"] = [run_name(one) for one in only]
    if run is not None:
        name = run_name(run)
        known = run.job if isinstance(run, Accepted) else job
        if known is not None:  # the log may not know the run yet
            query["job"] = known
        wanted = Stream(f"/v1/runs/{quote(name, safe='')}/events", query, name, follow)
    elif job is not None:
        wanted = Stream(f"/v1/jobs/{quote(job, safe='')}/events", query, job, follow)
    else:
        wanted = Stream("/v1/events", query, None, follow=True)
    return Follower(wanted, setup.habits.random, after, setup.reconnects_max)


def build(call: Call[Any], setup: Setup, more: dict[str, str] | None = None) -> httpx2.Request:
    """The request that a call is."""
    return httpx2.Request(
        call.method,
        setup.url + call.path,
        params=call.query,
        headers=setup.headers | call.headers | (more or {}),
        content=call.content,
        extensions={
            "timeout": (setup.request_timeout if more is None else setup.stream_timeout).as_dict()
        },
    )


def is_stream(response: httpx2.Response) -> bool:
    """Whether what is answered is a stream of events."""
    kind = response.headers.get("content-type", "")
    return response.status_code == 200 and kind.startswith(EVENTS_TYPE)  # noqa: PLR2004


def reply_of(response: httpx2.Response, content: bytes) -> Reply:
    """An answer without its transport."""
    return Reply(response.status_code, response.headers, content)


def away(error: httpx2.TransportError) -> Unavailable:
    """What it is that there was no answer."""
    return Unavailable(f"the gateway cannot be reached: {str(error) or type(error).__name__}")
