"""How an executor claims calls and hands over results: in the process, or over the wire."""

import asyncio
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

logger = logging.getLogger(__name__)

CLAIM_TRIES_MAX = 5
PAUSE_S = 0.1
PAUSE_MAX_S = 5.0


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
        """Record at the desk, until it is in the log: our lease says that we are still at it."""
        pause_s = PAUSE_S
        while True:
            try:
                await record_tool_result(self.desk, ref, command)
            except Unavailable:
                logger.warning("the result of call %s waits for the log", command.call)
            except IntegrityViolated:
                logger.exception("RunIntegrityViolated: run %s takes no result", ref.run)
                return
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)


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
        message_id = derive_id("result", ref.run, command.call, command.holder)
        pause_s = PAUSE_S
        while True:
            try:
                command = await self.client.slim(ref, command)
                answer = await self.client.ask(ref, command)
                if answer.status == "accepted":
                    return
                await self.client.backbone.commands.put(
                    ref, canonical(command), message_id=message_id
                )
            except Unavailable:
                logger.warning("the result of call %s waits for COMMANDS", command.call)
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, pause_s * 2)
