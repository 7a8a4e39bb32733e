"""What the gateway can be asked, as a table: routes and the OpenAPI document come from it alone.

Not what the operations do: their handlers are elsewhere, and get what was asked already checked.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import ASGIApp

from domain.events import Principal
from gateway.bodies import Body
from gateway.callers import Caller, Role
from gateway.parameters import Query

JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream"

Method = Literal["GET", "POST", "PUT", "DELETE"]

BodyT = TypeVar("BodyT", bound=Body)
QueryT = TypeVar("QueryT", bound=BaseModel)


class NoQuery(Query):
    """No parameters."""


class NothingSent(Body):
    """No body."""


@dataclass(frozen=True, slots=True)
class Asked(Generic[QueryT, BodyT]):
    """One request: who makes it, its parameters and its body, both checked."""

    request: Request
    caller: Caller
    query: QueryT
    body: BodyT

    @property
    def tenant(self) -> str:
        """Whose data is meant: the caller's (C18)."""
        return self.caller.tenant

    @property
    def by(self) -> Principal:
        """Who asks, as it is recorded."""
        return self.caller.principal

    def part(self, name: str) -> str:
        """What the path says for one of its names."""
        return str(self.request.path_params[name])


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked.

    `answer` is the model of the answer, or the media type of one that is no JSON. `handler` gets an
    `Asked` and returns what is answered: an instance of `answer`, or a response that is ready.
    """

    method: Method
    path: str
    name: str  # the operation's id in the OpenAPI document, and its method in clients
    role: Role
    summary: str
    handler: Callable[[Asked[Any, Any]], Awaitable[BaseModel | ASGIApp]]
    answer: type[BaseModel] | str
    status: int = 200
    query: type[BaseModel] = NoQuery
    body: type[Body] | None = None
    body_media_type: str = JSON_TYPE  # any other: the handler reads the bytes
    problems: tuple[int, ...] = ()  # beside those that every operation may have
    tag: str = "runs"
    description: str = ""
    open: bool = False  # no credential is asked for: nothing of anybody's is in the answer
    shown: bool = True  # whether the OpenAPI document tells it
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    frames: Mapping[str, type[BaseModel]] = field(default_factory=dict[str, type[BaseModel]])
    """Of an event stream: the data of its frames, by the name of their event."""

    @property
    def keyed(self) -> bool:
        """Whether the same `Idempotency-Key` makes two requests one."""
        return self.method == "POST" and self.role == "operator"

    @property
    def streams(self) -> bool:
        """Whether the answer goes on until somebody ends it."""
        return self.answer == EVENTS_TYPE
