"""What the gateway is made of, as arguments. Not the wiring: `peritus` does that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import HTTPConnection

from domain.definition import Definition
from domain.events import Principal
from domain.ids import RunRef
from domain.redaction import Redactor
from eventlog.port import Backbone
from gateway.auth.means import Auth
from gateway.callers import caller_of
from gateway.retained import Retaining
from gateway.stored import StoredFiles
from gateway.streams.bounds import DEFAULT_BOUNDS, Bounds
from gateway.webhooks.hooks import Hooks
from projections.queries.reader import Reader

HEARTBEAT_S = 10.0
"""How often a silent stream says that it lives, in seconds: proxies cut at 30 s and more (C9)."""

WAIT_S = 5.0
"""How long a query waits for the position it asks for, in seconds."""

BODY_BYTES_MAX = 1024 * 1024
UPLOAD_BYTES_MAX = 32 * 1024 * 1024

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


class DefinitionSource(Protocol):
    """Reads the definition new runs start with; blocking, called in a thread."""

    def __call__(self, *, provider: str | None, model: str | None) -> Definition:
        """The definition, with what the caller asks for above the file.

        Raises:
            Rejected: it cannot be used.
        """
        ...


def by_credential(connection: HTTPConnection) -> Principal:
    """Who asks: the caller, or before anybody is known, whoever has the one token or is here."""
    caller = caller_of(connection)
    if caller is not None:
        return caller.principal
    name = "token" if "authorization" in connection.headers else "loopback"
    return Principal(name=name, via="http")


class Known(Protocol):
    """Finds out what the MCP servers of a definition offer, before a run of an expert starts."""

    async def __call__(self, ref: RunRef, definition: Definition, expert: str) -> Definition:
        """The definition with all that is known of its servers.

        Raises:
            Rejected: some cannot be asked; the message says which, and why.
            Unavailable: not now.
        """
        ...


async def as_it_is(ref: RunRef, definition: Definition, expert: str) -> Definition:
    """What a gateway does that asks no servers: experts with MCP skills then need a lockfile."""
    del ref, expert
    return definition


@dataclass(frozen=True, slots=True)
class GatewayDeps:
    """The parts of one gateway.

    Without `token` and `auth` no credential is asked for, and only `hosts` may be named as the
    host, so that no web page can reach a loopback gateway under a name of its own. `tenant` and
    `principal` are those of the caller; before one is known, whose the one token is.
    """

    backbone: Backbone
    reader: Reader
    files: StoredFiles
    definitions: DefinitionSource
    new_id: Callable[[], str]
    tenant: Callable[[HTTPConnection], str]
    principal: Callable[[HTTPConnection], Principal] = by_credential
    known: Known = as_it_is
    token: str | None = None
    auth: Auth | None = None
    hosts: frozenset[str] = LOOPBACK_HOSTS
    heartbeat_s: float = HEARTBEAT_S
    streams: Bounds = DEFAULT_BOUNDS
    wait_s: float = WAIT_S
    body_bytes_max: int = BODY_BYTES_MAX
    upload_bytes_max: int = UPLOAD_BYTES_MAX
    hooks: Hooks | None = None
    retaining: Retaining | None = None
    redactor: Callable[[], Redactor] = Redactor
    """What this process knows of secrets: none is in an answer that tells what went wrong."""


def one_definition(load: Callable[[], Definition]) -> DefinitionSource:
    """A source that puts the provider and model asked for into every expert of one definition."""

    def source(*, provider: str | None, model: str | None) -> Definition:
        definition = load()
        if provider is None and model is None:
            return definition
        changes: dict[str, object] = {}
        if model is not None:
            changes["model"] = model
        if provider is not None:
            changes |= {"provider": provider, "base_url": None, "headers": {}}
        experts = {
            key: expert.model_copy(update={"model": expert.model.model_copy(update=changes)})
            for key, expert in definition.experts.items()
        }
        return definition.model_copy(update={"experts": experts})

    return source


def one_tenant(name: str) -> Callable[[HTTPConnection], str]:
    """The tenant of the caller, and where nobody was asked, the one of the deployment."""

    def tenant(connection: HTTPConnection) -> str:
        caller = caller_of(connection)
        return name if caller is None else caller.tenant

    return tenant
