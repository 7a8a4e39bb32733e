"""How often somebody may ask, in this process: token buckets. Not the limits of providers."""

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

BUCKETS_MAX = 10_000
BURST_S = 10.0
"""How long a caller that was quiet may ask at any pace, in seconds of its rate."""

BURST_MIN = 10.0
FAILURES_PER_MINUTE = 10
MINUTE_S = 60.0
IPV6_PREFIX = 64
"""One customer has a whole network of so many bits: its addresses count as one."""


@dataclass(slots=True)
class Bucket:
    """What is left of a rate, as of a moment."""

    left: float
    at_s: float


class Rate:
    """A rate for each of many, who are told apart by name. Those that were quiet are forgotten."""

    def __init__(self, per_minute: float, burst: float, now_s: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self.burst = burst
        self._now_s = now_s
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def left(self, who: str) -> float:
        """What is left for somebody, in requests."""
        bucket = self._buckets.get(who)
        if bucket is None:
            return self.burst
        grown = (self._now_s() - bucket.at_s) * self.per_minute / MINUTE_S
        return min(self.burst, bucket.left + grown)

    def take(self, who: str) -> bool:
        """Count one more, if there is one left."""
        left = self.left(who)
        if left < 1:
            return False
        self._buckets[who] = Bucket(left - 1, self._now_s())
        self._buckets.move_to_end(who)
        while len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return True

    def wait_s(self, who: str) -> int:
        """How long until there is one left, in whole seconds, at least 1."""
        return max(1, math.ceil((1 - self.left(who)) * MINUTE_S / self.per_minute))

    def headers(self, who: str) -> Mapping[str, str]:
        """What a client is told of it (draft-ietf-httpapi-ratelimit-headers)."""
        left = self.left(who)
        full_s = math.ceil((self.burst - left) * MINUTE_S / self.per_minute)
        return {
            "RateLimit-Policy": f'"caller";q={round(self.per_minute)};w={MINUTE_S:.0f}',
            "RateLimit": f'"caller";r={math.floor(left)};t={full_s}',
        }


class Rates:
    """The rates of one gateway: of each caller, and of what fails from one address."""

    def __init__(self, per_minute: int, now_s: Callable[[], float]) -> None:
        burst = max(BURST_MIN, per_minute * BURST_S / MINUTE_S)
        self.callers = Rate(per_minute, burst, now_s)
        self.failures = Rate(FAILURES_PER_MINUTE, FAILURES_PER_MINUTE, now_s)


def address_of(client: tuple[str, int] | None) -> str:
    """What requests of one machine have in common; of IPv6, its network."""
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))
    return str(address)
