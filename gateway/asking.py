"""How the gateway hands a command on, and in whose name. Not which commands there are."""

import difflib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from commands.attachments import Attachment, parts_of
from commands.client import CommandClient
from domain.commands import (
    AnswerAsk,
    AnswerQuestion,
    CancelRun,
    ChangePolicy,
    ContinueRun,
    DecideApproval,
    ForkRun,
    PauseRun,
    ResumeRun,
    StartRun,
    SteerRun,
)
from domain.content import ContentPart
from domain.definition import Definition
from domain.errors import Unavailable
from domain.ids import RunRef
from eventlog.port import Cursor
from gateway.bodies import AttachmentBody
from gateway.deps import GatewayDeps
from gateway.models.common import Accepted
from gateway.once import key_of
from gateway.operations import Asked
from gateway.problems import Problem
from gateway.shapes import links

FromPeople = (
    StartRun
    | ForkRun
    | ContinueRun
    | CancelRun
    | SteerRun
    | PauseRun
    | ResumeRun
    | DecideApproval
    | AnswerQuestion
    | AnswerAsk
    | ChangePolicy
)


class Asking:
    """What all routes that ask something of a run share."""

    def __init__(self, deps: GatewayDeps) -> None:
        self.deps = deps
        self._client = CommandClient(deps.backbone, deps.redactor)

    async def submit(self, asked: Asked[Any, Any], ref: RunRef, command: FromPeople) -> Accepted:
        """Have a command decided, or stored to be; say where to look for what comes of it.

        Raises:
            Rejected: it was refused.
            Unavailable: it was neither handled nor stored.
        """
        log = self.deps.backbone.log
        decided = await self._client.submit(ref, command, command.id) is not None
        position: str | None = None
        if decided:  # the log's end now is at or after what was appended: enough to wait for
            with suppress(Unavailable):  # it is done all the same
                position = str(Cursor(log.incarnation, (await log.bounds())[1]))
        where = links(asked.request, ref)
        if not decided:  # the log may not know the run yet, so the stream has to be told its job
            where["events_url"] += f"?job={ref.job}"
        return Accepted(run=ref.run, job=ref.job, position=position, **where)

    async def attached(
        self, asked: Asked[Any, Any], attachments: Sequence[AttachmentBody]
    ) -> tuple[ContentPart, ...]:
        """What is handed over beside words, as an expert is told it.

        Raises:
            Rejected: one is not there, too large, or nothing that an expert can be told.
            Unavailable: the store is away.
        """
        named = [Attachment(one.digest, one.media_type, one.name) for one in attachments]
        return await parts_of(self.deps.backbone.blobs, asked.tenant, named)

    def key(self, asked: Asked[Any, Any]) -> str:
        """What makes this request the same as one sent before; a fresh one without a header.

        Raises:
            Problem: it is empty or too long.
        """
        return key_of(asked.request) or self.deps.new_id()


def check_permitted(asked: Asked[Any, Any], expert: str) -> None:
    """Refuse an expert that the caller may not start, whether it exists or not."""
    may = asked.caller.experts
    if may is not None and expert not in may:
        known = ", ".join(sorted(may)) or "none"
        raise Problem(403, "forbidden", f"You may start these experts only: {known}.")


def check_expert(definition: Definition, key: str) -> None:
    """Refuse an unknown expert without saying its name back (C15).

    Raises:
        Problem: it is not defined.
    """
    if key in definition.experts:
        return
    near = difflib.get_close_matches(key, definition.experts, n=1)
    known = ", ".join(sorted(definition.experts)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {known}"
    raise Problem(422, "unknown_expert", f"expert: no such expert is defined; {hint}")
