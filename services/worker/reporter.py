"""How an executor claims calls and hands over results: in the process, or over the wire."""

import logging
from dataclasses import dataclass
from typing import Protocol

from commands.claim_tool_call import claim_tool_call
from commands.client import CommandClient
from commands.desk import Desk
from commands.record_tool_result import record_tool_result
from domain.commands import ClaimToolCall, RecordToolResult
from domain.errors import IntegrityViolated, Unavailable
from domain.ids import RunRef, derive_id
from domain.record import canonical
from services.worker.insist import insist

logger = logging.getLogger(__name__)

CLAIM_TRIES_MAX = 5


class Reporter(Protocol):
    """The executor's way back to the run."""

    async def claim(self, ref: RunRef, command: ClaimToolCall) -> bool | None:
        """Whether the call is ours to run; None when nobody could say: run nothing."""
        ...

    async def record(self, ref: RunRef, command: RecordToolResult) -> None:
        """Hand a result over; returns when it can no longer be lost."""
        ...


@dataclass(frozen=True, slots=True)
class LocalReporter:
    """Reports to the desk of this process: the loop service runs here too."""

    desk: Desk

    async def claim(self, ref: RunRef, command: ClaimToolCall) -> bool | None:
        """Claim at the desk."""
        try:
            return await claim_tool_call(self.desk, ref, command)
        except Unavailable:
            return None

    async def record(self, ref: RunRef, command: RecordToolResult) -> None:
        """Record at the desk, until it is in the log."""
        try:
            await insist(
                lambda: record_tool_result(self.desk, ref, command),
                f"the result of {ref.run}/{command.call}",
            )
        except IntegrityViolated:
            logger.exception("RunIntegrityViolated: run %s takes no result", ref.run)


@dataclass(frozen=True, slots=True)
class RemoteReporter:
    """Reports to whichever loop service answers; results go to COMMANDS when none does (rule 7)."""

    client: CommandClient

    async def claim(self, ref: RunRef, command: ClaimToolCall) -> bool | None:
        """Ask a few times; the same epoch asking again gets the same answer."""
        for _ in range(CLAIM_TRIES_MAX):
            answer = await self.client.ask(ref, command)
            if answer.status != "unavailable":
                return answer.granted
        return None

    async def record(self, ref: RunRef, command: RecordToolResult) -> None:
        """One try by request; without a positive reply, COMMANDS until it is stored."""
        await insist(
            lambda: self._hand_over(ref, command), f"the result of {ref.run}/{command.call}"
        )

    async def _hand_over(self, ref: RunRef, command: RecordToolResult) -> None:
        command = await self.client.slim(ref, command)
        answer = await self.client.ask(ref, command)
        if answer.status == "accepted":
            return
        message_id = derive_id("result", ref.run, command.call, command.holder)
        await self.client.backbone.commands.put(ref, canonical(command), message_id=message_id)
