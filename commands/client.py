"""How anybody asks something of a run: quickly by request, durably by COMMANDS. Not a decision."""

from collections.abc import Callable
from dataclasses import dataclass

from commands.offload import CommandT, offload
from commands.route import Answer
from domain.commands import Command
from domain.errors import Rejected
from domain.ids import RunRef
from domain.record import canonical
from domain.redaction import Redactor, redact_command
from eventlog.port import Backbone

ASK_TIMEOUT_S = 1.0
"""How long a request may take before the command is stored instead, in seconds (rule 7)."""


@dataclass(frozen=True, slots=True)
class CommandClient:
    """Sends commands on behalf of people and workers."""

    backbone: Backbone
    redactor: Callable[[], Redactor] = Redactor

    async def ask(self, ref: RunRef, command: Command, timeout_s: float = ASK_TIMEOUT_S) -> Answer:
        """One try by request and reply; `unavailable` when nobody answered in time."""
        data = await self.backbone.requests.ask(ref, canonical(command), timeout_s=timeout_s)
        if data is None:
            return Answer(status="unavailable", detail="no answer in time", code="no_answer")
        return Answer.model_validate_json(data)

    async def slim(self, ref: RunRef, command: CommandT) -> CommandT:
        """The command without secrets and with its large texts as blobs: it fits into a message.

        Raises:
            Unavailable: they could not be stored.
        """
        smaller, blobs = offload(redact_command(self.redactor(), command))
        for data in blobs.values():
            await self.backbone.blobs.put(ref.tenant, data)
        return smaller

    async def submit(self, ref: RunRef, command: Command, message_id: str) -> Answer | None:
        """Ask; without an answer, store the command and return None: it will be handled.

        Raises:
            Rejected: the command was refused.
            Unavailable: it was neither answered nor stored.
        """
        command = await self.slim(ref, command)
        answer = await self.ask(ref, command)
        if answer.status == "rejected":
            raise Rejected(answer.code, answer.detail)
        if answer.status == "accepted":
            return answer
        await self.backbone.commands.put(ref, canonical(command), message_id=message_id)
        return None
