"""How long and how large anything may be that a server has a part in. Nothing is without a bound.

The defaults suit servers people write; tests make them small.
"""

from dataclasses import dataclass

MIB = 1024 * 1024
LINE_BYTES_MAX = 16 * MIB


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one connection, in seconds, bytes and counts."""

    open_s: float = 30.0
    """From the start of a server until it has answered `initialize`."""
    close_s: float = 10.0
    """For ending the session and its transport, the process of the server included."""
    grace_s: float = 2.0
    """Between the end of its input and SIGTERM, and between that and SIGKILL."""
    list_s: float = 30.0
    """For one page of what a server offers."""
    fresh_s: float = 60.0
    """What a server offers is asked for again before a call when that was longer ago."""
    ping_s: float = 5.0
    idle_ping_s: float = 60.0
    """A connection that was not used for so long is asked for a sign of life first."""
    idle_s: float = 300.0
    """A connection that was not used for so long is closed."""
    line_bytes_max: int = LINE_BYTES_MAX
    asked_at_once_max: int = 32
    """Requests of a server that wait for an answer of ours."""
    stuck_s: float = 10.0
    """How long a server may leave that many of its own requests without taking an answer."""
    unasked_per_s: int = 500
    """Lines that are no answers: what comes faster is read slower."""
    stderr_bytes_per_s: int = 32 * MIB
    backoff_s: float = 0.5
    backoff_s_max: float = 30.0
    """What a server that failed is given before it is started again, doubled each time."""
    connections_max: int = 64
    pages_max: int = 50
    tools_max: int = 256
    tool_bytes_max: int = 64 * 1024
    """Of one tool: its description and both of its schemas."""
    catalogue_bytes_max: int = MIB
