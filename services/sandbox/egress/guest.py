"""One sandbox as the proxy knows it: its policy, its counts, its budget, its stand-ins. No I/O."""

from collections.abc import Callable

from domain.sandbox import EgressRow
from services.sandbox.egress.budget import Budget
from services.sandbox.egress.echo import swaps
from services.sandbox.egress.names import Where, shown
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.stand_ins import StandIn
from services.sandbox.egress.tally import Counter, Key

TOLD_HOSTS_MAX = 100
"""Denied hosts that are told of at once; further ones are only counted."""

TOLD_BYTES = 1024 * 1024
"""How far the bytes spent may run ahead of what the worker was told of them."""


class Guest:
    """What is true of one sandbox's connections together."""

    def __init__(
        self,
        policy: EgressPolicy,
        settings: EgressSettings,
        *,
        stand_ins: tuple[StandIn, ...],
        budget: Budget,
        on_denied: Callable[[EgressRow], None],
        on_spent: Callable[[int], None],
    ) -> None:
        self.counter = Counter()
        self.known = swaps(stand_ins)  # what no answer may repeat
        self._stand_ins = stand_ins
        self.budget = budget
        self.connections = 0
        self._policy = policy
        self._settings = settings
        self._on_denied = on_denied
        self._on_spent = on_spent
        self._told_hosts: set[str] = set()
        self._told_bytes = budget.spent

    def check(self, where: Where) -> None:
        """Whether a host may be asked for. Nothing has been resolved yet.

        Raises:
            Refused: it may not.
        """
        if not self._policy.allows(where.host):
            raise Refused(Reason.NOT_ALLOWED, *where)
        if where.port not in self._settings.ports:
            raise Refused(Reason.PORT, *where)
        if not self.budget.left:
            raise Refused(Reason.BYTE_LIMIT, *where)

    def for_host(self, host: str) -> tuple[StandIn, ...]:
        """The stand-ins that are swapped for their values on the way to a host."""
        return tuple(stand_in for stand_in in self._stand_ins if stand_in.is_for(host))

    def opened(self, where: Where) -> Key:
        """Count a connection that was made; the key counts its bytes."""
        key = Key(*where, "allowed")
        self.counter.add(key, connections=1)
        return key

    async def pay(self, key: Key, bytes_out: int, bytes_in: int) -> None:
        """Pay for bytes and count them.

        Raises:
            Refused: they are more than is left.
        """
        try:
            await self.budget.spend(bytes_out + bytes_in)
        except Refused as refused:
            refused.host, refused.port = key.host, key.port
            raise
        finally:
            self._tell_spent()
        self.counter.add(key, bytes_out=bytes_out, bytes_in=bytes_in)

    def refuse(self, refused: Refused) -> None:
        """Count what was refused, and tell of the first time a host is."""
        key = Key(
            shown(refused.host),
            refused.port,
            "failed" if refused.failed else "denied",
            refused.reason.value,
        )
        self.counter.add(key, connections=1)
        told = self._told_hosts
        if refused.failed or key.host in told or len(told) >= TOLD_HOSTS_MAX:
            return
        told.add(key.host)
        self._on_denied(
            EgressRow(host=key.host, port=key.port, verdict="denied", reason=key.reason)
        )

    def _tell_spent(self) -> None:
        spent = self.budget.spent
        if spent - self._told_bytes >= TOLD_BYTES or not self.budget.left:
            self._told_bytes = spent
            self._on_spent(spent)
