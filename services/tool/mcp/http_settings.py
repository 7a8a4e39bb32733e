"""What an operator says about MCP servers that are reached by HTTP. No definition can change it."""

from pydantic import Field

from domain.addresses import NetworkText
from domain.record import Record
from services.tool.mcp.bounds import MIB


class HttpSettings(Record):
    """Who may be reached, and how much of an answer is read."""

    allow_cidrs: tuple[NetworkText, ...] = ()
    """Addresses that may be reached although they are not public, also without TLS."""
    deny_cidrs: tuple[NetworkText, ...] = ()
    """Public addresses that may not be reached."""
    domains: tuple[str, ...] | None = None
    """The only hosts that may be reached, as `name` or `*.name`; None: whatever is public."""
    extra_ca_file: str | None = None
    """Certificates (PEM) to trust beside the system's."""
    proxy: str | None = None
    """The proxy of the way out, which then resolves names; that of the environment is not used."""

    connect_s: float = Field(default=10.0, gt=0)  # to resolve, to connect, for TLS: each
    answer_s: float = Field(default=30.0, gt=0)  # of an authorisation server, or to a goodbye
    body_bytes_max: int = Field(default=16 * MIB, ge=1)  # of one answer or one event
    connections_max: int = Field(default=64, ge=1)  # to one server, of one session
