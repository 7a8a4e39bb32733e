"""How the MCP server hands commands on: starts, words, answers, cancels. Not decisions."""

import asyncio
import logging
from decimal import Decimal
from typing import Any

from commands.client import CommandClient
from commands.task import task_of
from domain.commands import (
    AnswerAsk,
    AnswerQuestion,
    CancelRun,
    Command,
    ContinueRun,
    DecideApproval,
    StartRun,
)
from domain.content import TextPart
from domain.errors import PeritusError, Rejected
from domain.ids import RunRef, derive_id
from domain.limits import Limits
from domain.record import digest_of
from gateway.mcp.deps import McpDeps
from gateway.mcp.forms import Said
from gateway.mcp.offers import Offer
from projections.waits import Wait

logger = logging.getLogger(__name__)

KEY_CHARS_MAX = 256
MICRO = 1_000_000


class Asking:
    """Sends commands in the name of whoever uses the server."""

    def __init__(self, deps: McpDeps) -> None:
        self._deps = deps
        self._client = CommandClient(deps.backbone, deps.redactor)

    def ref_of(self, key: str | None) -> RunRef:
        """The run of a call: the same one for the same key.

        Raises:
            Rejected: the key cannot be one.
        """
        if key is not None and not 0 < len(key) <= KEY_CHARS_MAX:
            raise Rejected("bad_key", f"the key must have 1 to {KEY_CHARS_MAX} characters")
        tenant = self._deps.tenant
        name = self._deps.new_id() if key is None else derive_id("run", tenant, key)
        return RunRef(tenant, name, name)  # a job has one root, which has its name

    async def prepared(self, ref: RunRef, offer: Offer, arguments: dict[str, Any]) -> StartRun:
        """What starts the run of a call; for the same call again it is the same.

        It may take as long as servers of skills take to say what they offer.

        Raises:
            Rejected: the input is wrong, or the definition cannot be used.
            Unavailable: not now.
        """
        given = {name: arguments[name] for name in offer.controls & arguments.keys()}
        data = {name: value for name, value in arguments.items() if name not in given}
        controls = _checked(given)
        if offer.expert.input_schema is None:
            task = task_of(offer.expert, _query(data), None)
        else:
            task = task_of(offer.expert, "", data)
        definition = await self._deps.definition(wanted=offer.expert.key)
        digest = await self._deps.backbone.blobs.put(ref.tenant, definition.to_bytes())
        await asyncio.to_thread(self._deps.prepare, ref)
        said = digest_of(f"{offer.expert.key}\x00{task}\x00{sorted(controls.items())}".encode())
        return StartRun(
            id=derive_id("start", *ref, said),
            expert=offer.expert.key,
            definition=digest,
            parts=(TextPart(text=task),),
            limits=_lowered(definition.limits, controls),
            by=self._deps.by,
        )

    async def start(self, ref: RunRef, command: StartRun) -> None:
        """Start a run; the same start again changes nothing.

        Raises:
            Rejected: the definition cannot be used, or the run exists with another start.
            Unavailable: the command was neither handled nor stored.
        """
        await self._send(ref, command)

    async def say(self, ref: RunRef, text: str) -> None:
        """Say something to a root run; at rest, it goes on.

        Raises:
            Rejected: it cannot be continued.
            Unavailable: the command was neither handled nor stored.
        """
        parts = (TextPart(text=text),) if text else ()
        await self._send(ref, ContinueRun(id=self._deps.new_id(), parts=parts, by=self._deps.by))

    async def answer(self, wait: Wait, text: str) -> None:
        """Answer a question.

        Raises:
            Rejected: it is not open any more.
            Unavailable: the command was neither handled nor stored.
        """
        parts = (TextPart(text=text),)
        command = AnswerQuestion(
            id=self._deps.new_id(), call=wait.id, parts=parts, by=self._deps.by
        )
        await self._send(wait.ref, command)

    async def take(self, wait: Wait, said: Said) -> None:
        """Hand on what a person said in a form.

        Raises:
            Rejected: it does not wait any more.
            Unavailable: the command was neither handled nor stored.
        """
        match said.kind:
            case "nothing":
                return
            case "answer":
                await self.answer(wait, said.text)
            case "filled":
                action = "decline" if said.content is None else "accept"
                filled = AnswerAsk(
                    id=self._deps.new_id(),
                    ask=wait.id,
                    action=action,
                    content=said.content or None,
                    by=self._deps.by,
                )
                await self._send(wait.ref, filled)
            case "approve" | "deny":
                command = DecideApproval(
                    id=self._deps.new_id(),
                    approval=wait.id,
                    approve=said.kind == "approve",
                    digest=wait.digest,
                    reason=said.text,
                    by=self._deps.by,
                )
                await self._send(wait.ref, command)

    async def cancel(self, ref: RunRef, reason: str) -> None:
        """Ask a run, and everything under it, to stop.

        Raises:
            Unavailable: the command was neither handled nor stored.
        """
        await self._send(ref, CancelRun(id=self._deps.new_id(), reason=reason, by=self._deps.by))

    async def cancel_quietly(self, ref: RunRef, reason: str) -> None:
        """The same for a caller that is gone: there is nobody to tell that it did not work."""
        try:
            await self.cancel(ref, reason)
        except PeritusError as error:
            logger.warning("run %s could not be cancelled: %s", ref.run, error)

    async def _send(self, ref: RunRef, command: Command) -> None:
        await self._client.submit(ref, command, self._deps.new_id())


def _query(data: dict[str, Any]) -> str:
    query = data.pop("query", "")
    if data:
        raise Rejected("bad_input", f"there is no such field: {', '.join(sorted(data))}")
    if not isinstance(query, str):
        raise Rejected("bad_input", "query must be a text: what the expert is to do")
    return query


def _checked(given: dict[str, Any]) -> dict[str, int]:
    """The control fields as limits; a number that is none is refused."""
    found: dict[str, int] = {}
    for name, value in given.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "max_steps":
            if not number or value < 1 or value != int(value):
                raise Rejected("bad_input", "max_steps must be a whole number, at least 1")
            found["steps_max"] = int(value)
        else:
            if not number or not value >= 0 or value == float("inf"):
                raise Rejected("bad_input", "budget_usd must be a number of US dollars")
            found["money_max"] = int(Decimal(str(value)) * MICRO)
    return found


def _lowered(limits: Limits, given: dict[str, int]) -> Limits | None:
    """The definition's limits, lowered as a caller asks: no caller raises one."""
    if not given:
        return None
    known = {name: getattr(limits, name) for name in given}
    lower = {
        name: value if known[name] is None else min(value, known[name])
        for name, value in given.items()
    }
    return limits.model_copy(update=lower)
