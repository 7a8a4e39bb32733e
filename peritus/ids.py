"""The wall clock and the source of fresh ids: the only place of either. Not ids that derive."""

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TIME_BITS = 48
RANDOM_BITS = 80
CHARS = 26
BITS_PER_CHAR = 5


def now_ms() -> int:
    """Milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A fresh id: 26 lower-case characters, sortable by the millisecond it was made in."""
    return id_at(now_ms(), secrets.randbits(RANDOM_BITS))


def id_at(at_ms: int, chance: int) -> str:
    """The id of a millisecond and 80 bits of chance."""
    value = (at_ms % (1 << TIME_BITS)) << RANDOM_BITS | chance
    return "".join(
        ALPHABET[(value >> shift) & (len(ALPHABET) - 1)]
        for shift in range((CHARS - 1) * BITS_PER_CHAR, -1, -BITS_PER_CHAR)
    )
