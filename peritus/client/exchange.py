"""One request and what comes of it, with its retries: what to do next, done by whoever drives it.

There is no input or output here, so the form that awaits and the one that blocks share all of it.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from domain.errors import Unavailable
from peritus.client.backoff import RETRIES_MAX, Backoff
from peritus.client.errors import Faulty, TooMany, error_of

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

KEY_HEADER = "Idempotency-Key"
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a gateway answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def asked_s(self) -> float:
        """For how long it wants to be left alone."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdecimal() else 0.0


Reader = Callable[[Reply], T]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read. `key` None: one is made when it is sent first."""

    method: str
    path: str
    read: Reader[T]
    query: Mapping[str, str | int | list[str]] = field(
        default_factory=dict[str, str | int | list[str]]
    )
    content: bytes | None = None
    media_type: str = JSON_TYPE
    key: str | None = None

    @property
    def writes(self) -> bool:
        """Whether it asks for something to be done."""
        return self.method != "GET"

    @property
    def headers(self) -> dict[str, str]:
        """Those of this request alone."""
        found = {} if self.content is None else {"Content-Type": self.media_type}
        return found if self.key is None else found | {KEY_HEADER: self.key}


@dataclass(frozen=True, slots=True)
class Send:
    """Send it; what is handed back is the reply, or `Unavailable` when there was none."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for so many seconds; nothing is handed back."""

    seconds: float


Steps = Generator[Send | Wait, Reply | Unavailable | None, T]
"""What has to be done, one by one, until there is an answer."""


@dataclass(frozen=True, slots=True)
class Habits:
    """Where ids and jitter come from, and how often a request is sent again."""

    new_id: Callable[[], str]
    random: Callable[[], float]
    retries_max: int = RETRIES_MAX


def exchange(call: Call[T], habits: Habits) -> Steps[T]:
    """Send a request until it is answered; a write has one key however often it is sent.

    Raises:
        PeritusError: it was refused, or is not answered.
    """
    if call.writes and call.key is None:
        call = replace(call, key=habits.new_id())
    backoff = Backoff(habits.random, habits.retries_max)
    while True:
        reply = yield Send(call)
        if isinstance(reply, Reply) and reply.status < 300:  # noqa: PLR2004 - all that is well
            return call.read(reply)
        asked_s, error = _failure(reply)
        if backoff.spent or not isinstance(error, Unavailable):
            raise error
        yield Wait(backoff.after_failure(asked_s))


def _failure(reply: Reply | Unavailable | None) -> tuple[float, Exception]:
    if isinstance(reply, Reply):
        error = error_of(reply.status, reply.content)
        return (reply.asked_s if isinstance(error, Unavailable | TooMany) else 0.0), error
    return 0.0, reply or Unavailable("there was no answer")


def as_model(kind: type[ModelT]) -> Reader[ModelT]:
    """Read the answer as this model."""

    def read(reply: Reply) -> ModelT:
        try:
            return kind.model_validate_json(reply.content)
        except ValidationError:
            message = f"what answered is no gateway of this release: not a {kind.__name__}"
            raise Faulty(reply.status, "unreadable", message) from None

    return read


def as_bytes(reply: Reply) -> bytes:
    """The answer as it is."""
    return reply.content
