"""What a stream may take: bytes, seconds, viewers. Not what it says."""

from dataclasses import dataclass

PAGE = 250
"""How many envelopes are read from the log at once for one viewer."""

CHUNK_BYTES = 64 * 1024
"""Frames that are ready together are written together, up to about this many bytes."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one gateway's streams. All have a default; tests have smaller ones."""

    heartbeat_s: float = 10.0
    """After how many silent seconds a stream says that it lives."""
    ring_envelopes: int = 4_096
    ring_bytes: int = 16 * 1024 * 1024
    """How much of the newest history is kept for viewers that come or were slow for a moment."""
    shelf_bytes: int = 16 * 1024 * 1024
    """How much older history is kept encoded, for the next viewer that catches up."""
    inbox_envelopes: int = 256
    inbox_bytes: int = 1024 * 1024
    """What may wait for one viewer; beyond, it reads the log itself again."""
    behind_s: float = 60.0
    """How long a viewer that fell behind may take to be level again before it is shed."""
    stall_s: float = 30.0
    """How long one write may take before the connection is cut: its client takes nothing."""
    viewers: int = 10_000
    replies: int = 2_000
    replies_bytes: int = 32 * 1024 * 1024
    replies_s: float = 900.0
    """How many replies in the making are remembered, how much of them, how long after a delta."""
    output_chars: int = 64 * 1024
    """How much is remembered of the end of a running call's output."""
    retry_s: float = 0.5
    retries: int = 20
    """How long and how often in a row a viewer waits for a log that is away."""


DEFAULT_BOUNDS = Bounds()
