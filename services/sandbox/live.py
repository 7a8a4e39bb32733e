"""What is said on LIVE of a sandbox: a host that was refused, at once. Never the record."""

from collections.abc import Callable
from typing import Literal

from domain.ids import RunRef
from domain.record import Record, canonical
from domain.redaction import Redactor
from domain.sandbox import EgressRow
from eventlog.port import LiveChannel
from services.sandbox.hosts import clean_row


class LiveEgressDenied(Record):
    """A command wanted to reach a host that it may not: told at its first try."""

    type: Literal["egress_denied.v1"] = "egress_denied.v1"
    call: str  # the newest call of the sandbox then
    host: str
    port: int
    reason: str


class Denials:
    """Tells whoever watches a run of hosts that were refused."""

    def __init__(self, channel: LiveChannel, redactor: Callable[[], Redactor]) -> None:
        """`redactor` knows what must not be said: a name can be made of a secret (C15)."""
        self._channel = channel
        self._redactor = redactor

    async def say(self, ref: RunRef, call: str, row: EgressRow) -> None:
        """Say it once; nobody may be listening."""
        redactor = self._redactor()
        row = clean_row(redactor, row)
        said = LiveEgressDenied(call=call, host=row.host, port=row.port, reason=row.reason)
        await self._channel.publish(ref, canonical(redactor.value(said)))
