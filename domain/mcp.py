"""What is known of an MCP server before it is used, and how it is to be used. Not the protocol."""

from typing import Any, Literal

from pydantic import Field

from domain.record import Clean, Record, canonical, digest_of
from domain.tools import Safety

ToolKind = Literal["tool", "prompt", "resources", "resource"]
"""What a call of a remote tool asks the server for: to call a tool, to fill in a prompt, to list
its resources, to read one of them."""


class RemoteTool(Record):
    """One thing a server offers, as a tool: what a run is pinned to of it.

    `name` is the server's own. `read_only` and `idempotent` are what the server says of itself.
    """

    kind: ToolKind = "tool"
    name: Clean
    description: Clean = ""
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    read_only: bool = False
    idempotent: bool = False

    @property
    def remote(self) -> str:
        """Names it within its server, whatever a model knows it by."""
        return f"{self.kind}:{self.name}"

    @property
    def digest(self) -> str:
        """Two tools of one digest are described alike: nothing a model or a policy sees differs."""
        return digest_of(canonical(self))


class Catalogue(Record):
    """Everything a server was found to offer, sorted by kind and name."""

    server: Clean = ""
    version: Clean = ""
    protocol: Clean = ""
    tools: tuple[RemoteTool, ...] = ()
    package: Clean = ""
    """The version of the registry's package that it was found in, where its server is of one."""

    def find(self, remote: str) -> RemoteTool | None:
        """The tool of that remote name."""
        return next((tool for tool in self.tools if tool.remote == remote), None)

    def chosen(self, pick: tuple[str, ...], omit: tuple[str, ...]) -> tuple[RemoteTool, ...]:
        """The tools with `omit` applied first; both name tools as the server does."""
        return tuple(
            tool for tool in self.tools if tool.name not in omit and (not pick or tool.name in pick)
        )


class ToolOverride(Record):
    """What a definition says of one tool, above what its server says. None: nothing."""

    timeout_ms: int | None = None
    read_only: bool | None = None
    idempotent: bool | None = None


class OAuth(Record):
    """How a host gets a token for an MCP server. Secrets by name only.

    `client_credentials` needs a client and its secret; `authorization_code` needs a person once,
    and a client only where the server registers none by itself.
    """

    grant: Literal["client_credentials", "authorization_code"]
    client_id: str | None = None
    client_secret: str | None = None  # the name of a secret
    issuer: str | None = None
    """The only authorisation server it may be got from. None: one on the endpoint's own origin, for
    a client with a secret; else whichever the server names."""
    scopes: tuple[str, ...] = ()


class ServerUse(Record):
    """How an MCP server is used, whatever carries the protocol to it."""

    description: str = ""
    rule: str = ""
    pick: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    timeout_ms: int | None = None  # of each of its calls
    overrides: dict[str, ToolOverride] = Field(default_factory=dict[str, ToolOverride])
    shared: bool = False
    """One server for all jobs of a tenant; of a process, only where it sees no workspace."""
    sampling: Literal["deny", "allow"] = "deny"
    """Whether the server may have the run's own model say something, on the run's budget."""
    catalogue: Catalogue | None = None
    """What it offers; None: nobody has looked yet, and no run can start."""


def safety_of(tool: RemoteTool, override: ToolOverride) -> Safety:
    """What a second execution would do: the definition's word, then the server's, else unsafe."""
    if tool.kind != "tool":
        return Safety.READ_ONLY
    read_only = tool.read_only if override.read_only is None else override.read_only
    if read_only:
        return Safety.READ_ONLY
    idempotent = tool.idempotent if override.idempotent is None else override.idempotent
    return Safety.IDEMPOTENT if idempotent else Safety.UNSAFE
