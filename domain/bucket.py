"""A limit by the minute as a bucket that fills by itself. Not whose it is: `rate` knows that."""

from math import ceil
from typing import NamedTuple

from domain.record import Record

MINUTE_MS = 60_000

AT_ONCE_SHARE = 20
"""What part of the requests of a minute may begin at once: a twentieth."""

SLOWER = 1.01
"""Requests come this much slower than they may: one that begins late must not crowd a minute."""

HAIR = 1e-6
DIGITS = 6


class Bucket(Record):
    """What was left of a limit by the minute, and when; it may be less than nothing."""

    level: float
    at_ms: int


class Size(NamedTuple):
    """A bucket's shape: what it holds at most, and what flows in by the millisecond."""

    most: float
    per_ms: float


def by_request(per_min: int) -> Size:
    """A few at once, and so slow after it that no minute has more than the number."""
    most = max(1, per_min // AT_ONCE_SHARE)
    return Size(most, (per_min - most + 1) / (MINUTE_MS * SLOWER))


def by_token(per_min: int) -> Size:
    """The number at once, as providers count: one request may need much of it."""
    return Size(per_min, per_min / MINUTE_MS)


def drawn(bucket: Bucket | None, size: Size, cost: float, now_ms: int) -> Bucket | int:
    """The bucket after a call, or when there will be enough in it.

    A call that costs more than fits needs a full one. One that nobody knows of, at the first call
    and after all have forgotten it, holds just this call: never a second helping.
    """
    cost = min(cost, size.most)
    if bucket is None:
        return Bucket(level=0, at_ms=now_ms)
    full = filled(bucket, size, now_ms, 0)
    missing = cost - full.level
    if missing > HAIR:
        return now_ms + ceil(missing / size.per_ms)
    return full.model_copy(update={"level": round(full.level - cost, DIGITS)})


def filled(bucket: Bucket, size: Size, now_ms: int, back: float) -> Bucket:
    """The bucket now, with something put back."""
    passed_ms = max(0, now_ms - bucket.at_ms)
    level = min(size.most, bucket.level + passed_ms * size.per_ms)
    level = max(-size.most, min(size.most, level + back))
    return Bucket(level=round(level, DIGITS), at_ms=max(now_ms, bucket.at_ms))


def emptier(one: Bucket | None, other: Bucket | None) -> Bucket | None:
    """The one with less in it; of none and one, the one."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda bucket: (bucket.level, -bucket.at_ms))
