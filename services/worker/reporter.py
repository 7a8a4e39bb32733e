"""How an executor claims calls and hands over results: in the process, or over the wire."""

import logging
from dataclasses import dataclass
from typing import Protocol

from commands.ask_in_call import ask_in_call
from commands.claim_tool_call import claim_tool_call
from commands.client import CommandClient
from commands.desk import Desk
from commands.place_sandbox import Placed, place_sandbox, record_snapshot
from commands.record_tool_result import record_tool_result
from domain.commands import AskInCall, ClaimToolCall, PlaceSandbox, RecordSnapshot, RecordToolResult
from domain.errors import IntegrityViolated, Rejected, TooLarge, Unavailable
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

    async def ask(self, ref: RunRef, command: AskInCall) -> None:
        """Have something asked for an open call; returns when it stands in the log.

        Raises:
            Rejected: it is not asked: the call is over, or this cannot be asked.
        """
        ...

    async def place(self, ref: RunRef, command: PlaceSandbox) -> Placed | None:
        """Who holds the workspace of a run after this was asked; None when nobody could say."""
        ...

    async def snapshot(self, ref: RunRef, command: RecordSnapshot) -> None:
        """Hand over what a snapshot came to; returns when it can no longer be lost."""
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

    async def ask(self, ref: RunRef, command: AskInCall) -> None:
        """Ask at the desk, until it is in the log."""
        try:
            await insist(
                lambda: ask_in_call(self.desk, ref, command),
                f"a question of {ref.run}/{command.call}",
            )
        except TooLarge as error:
            raise Rejected("too_large", str(error)) from error
        except IntegrityViolated as error:
            raise Rejected("integrity_violated", str(error)) from error

    async def place(self, ref: RunRef, command: PlaceSandbox) -> Placed | None:
        """Ask at the desk."""
        try:
            return await place_sandbox(self.desk, ref, command)
        except Unavailable:
            return None

    async def snapshot(self, ref: RunRef, command: RecordSnapshot) -> None:
        """Record at the desk, until it is in the log."""
        await insist(
            lambda: record_snapshot(self.desk, ref, command), f"a snapshot of run {ref.run}"
        )


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

    async def ask(self, ref: RunRef, command: AskInCall) -> None:
        """Ask until somebody answers: whoever asks waits anyway, for as long as its call may run.

        Never by way of COMMANDS: a question that comes when its call is over would be in nobody's
        interest.
        """
        await insist(lambda: self._ask(ref, command), f"a question of {ref.run}/{command.call}")

    async def _ask(self, ref: RunRef, command: AskInCall) -> None:
        command = await self.client.slim(ref, command)
        answer = await self.client.ask(ref, command)
        if answer.status == "rejected":
            raise Rejected(answer.code, answer.detail)
        if answer.status == "unavailable":
            raise Unavailable(answer.detail)

    async def place(self, ref: RunRef, command: PlaceSandbox) -> Placed | None:
        """Ask a few times; the same epoch asking again gets the same answer."""
        for _ in range(CLAIM_TRIES_MAX):
            answer = await self.client.ask(ref, command)
            if answer.status == "rejected":
                raise Rejected(answer.code, answer.detail)
            if answer.status != "unavailable":
                return answer.placed
        return None

    async def snapshot(self, ref: RunRef, command: RecordSnapshot) -> None:
        """One try by request; without a positive reply, COMMANDS until it is stored."""
        await insist(lambda: self._hand_over(ref, command), f"a snapshot of run {ref.run}")

    async def _hand_over(self, ref: RunRef, command: RecordToolResult | RecordSnapshot) -> None:
        command = await self.client.slim(ref, command)
        answer = await self.client.ask(ref, command)
        if answer.status == "accepted":
            return
        if isinstance(command, RecordSnapshot):
            what = ("snapshot", command.taken.run, str(command.taken.version))
        else:
            what = ("result", command.call, command.holder)
        message_id = derive_id(what[0], ref.run, *what[1:])
        await self.client.backbone.commands.put(ref, canonical(command), message_id=message_id)
