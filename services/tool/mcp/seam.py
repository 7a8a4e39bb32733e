"""Where the two transports and what speaks MCP over them meet. Not a transport, no protocol.

Nothing here imports the SDK: it takes most of a second, and only a worker that calls needs it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from domain.definition import McpHttpSkill, McpStdioSkill
from domain.errors import PeritusError
from domain.record import canonical, digest_of

if TYPE_CHECKING:
    from mcp.client import Transport

Handshake = Literal["initialize", "auto"]
"""How a session begins: as every server knows it, or asking for the newest protocol first.

A server that is a process may end when the first thing it reads is none it knows.
"""


@dataclass(slots=True)
class Report:
    """What a transport tells beside messages, over one connection.

    `say` takes a line for people who watch: it never waits and never raises. `ended` is why the
    transport came to its end, for people: a transport sets it before it closes its streams.
    """

    say: Callable[[str], None] = lambda _: None
    ended: str = ""
    detail: str = ""
    """What may tell people more, whoever ended it: the end of what a process wrote to stderr."""
    tells_lost: bool = False
    """Whether the transport answers a request with CONNECTION_CLOSED where the answer got lost. By
    others, that code is a server's own, and means whatever the server has it mean."""
    not_run: bool = False
    """Whether it is sure that nothing that was sent and not answered has been executed."""


Connect = Callable[[Report], "Transport"]
"""Opens a transport: an async context manager over a pair of the SDK's streams. It is entered and
left in one task; leaving it ends everything it started.

Raises:
    Unavailable: the server cannot be reached now.
    NotOpened: it never will be like that; the message says what to change.
"""


@dataclass(frozen=True, slots=True)
class Key:
    """What a connection is shared within: a tenant, a place of it, a skill as it is used."""

    tenant: str
    place: str
    skill: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a skill, and how it is reached."""

    key: Key
    name: str
    """For people: the command or the address, without anything secret."""
    connect: Connect = field(repr=False)
    handshake: Handshake = "initialize"
    folder: str | None = None
    """What is told as the root, where the server sees files."""
    sampling: bool = False


class NotOpened(PeritusError):
    """There is no connection; whatever was to be sent was not. The message says why."""


class Lost(PeritusError):
    """The connection ended after a request was sent: nobody knows what became of it."""


class NoAnswer(PeritusError):
    """A server did not answer a request in time."""


class Refused(PeritusError):
    """A server answered a request with an error of the protocol."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Unreadable(PeritusError):
    """A server answered with something that is no answer to the request."""


def digest_of_skill(skill: McpStdioSkill | McpHttpSkill) -> str:
    """The same for skills whose server is started and used alike, whatever is known of it."""
    return digest_of(canonical(skill.model_copy(update={"catalogue": None})))
