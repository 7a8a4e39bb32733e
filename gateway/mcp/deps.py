"""What the MCP server is made of, as arguments. Not the wiring: `peritus mcp` does that."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from domain.definition import Definition
from domain.events import Principal
from domain.ids import RunRef
from domain.redaction import Redactor
from eventlog.port import Backbone
from projections.queries.reader import Reader

HEARTBEAT_S = 10.0
"""How often a silent call says that its run is at work, in seconds: clients give up at 60 s."""

PEOPLE_WAIT_S = 3600.0
"""How long a call waits when only a person can make its run go on, in seconds."""

CALLS_MAX = 256
"""Calls that one server has open at once, a count; more are refused."""


class CurrentDefinition(Protocol):
    """Reads the definition as it is now."""

    def __call__(self, *, wanted: str | None) -> Awaitable[Definition]:
        """The definition; with `wanted`, ready for a run of that expert to start.

        Raises:
            Rejected: it cannot be used.
            Unavailable: not now.
        """
        ...


@dataclass(frozen=True, slots=True)
class McpDeps:
    """The parts of one MCP server. `by` is in whose name runs are started and questions answered.

    `prepare` is told of a run before it is started; it blocks, and is called in a thread. Once
    `closing` is set, open calls end and leave their runs to go on.
    """

    backbone: Backbone
    reader: Reader
    definition: CurrentDefinition
    new_id: Callable[[], str]
    tenant: str
    by: Principal
    prepare: Callable[[RunRef], object] = lambda _: None
    redactor: Callable[[], Redactor] = Redactor
    experts_only: bool = False
    people_wait_s: float = PEOPLE_WAIT_S
    heartbeat_s: float = HEARTBEAT_S
    calls_max: int = CALLS_MAX
    version: str = ""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
