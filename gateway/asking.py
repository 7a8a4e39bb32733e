"""How the gateway hands a command on, and in whose name. Not which commands there are."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

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
from domain.events import Principal
from domain.ids import RunRef
from eventlog.port import Cursor
from gateway.bodies import BodyT, read_body
from gateway.deps import GatewayDeps
from gateway.problems import Problem
from gateway.shapes import json_answer, links

KEY_HEADER = "idempotency-key"
KEY_CHARS_MAX = 256

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

    async def submit(self, request: Request, ref: RunRef, command: FromPeople) -> Response:
        """Have a command decided, or stored to be; say where to look for what comes of it.

        Raises:
            Rejected: it was refused.
            Unavailable: it was neither handled nor stored.
        """
        log = self.deps.backbone.log
        decided = await self._client.submit(ref, command, command.id) is not None
        position: str | None = None
        if decided:  # the log's end now is at or after what was appended: enough to wait for
            position = str(Cursor(log.incarnation, (await log.bounds())[1]))
        body: dict[str, Any] = {"run": ref.run, "job": ref.job, "position": position}
        body |= links(request, ref.run)
        if not decided:  # the log may not know the run yet, so the stream has to be told its job
            body["events_url"] += f"?job={ref.job}"
        return json_answer(body, status=202)

    async def body(self, request: Request, kind: type[BodyT]) -> BodyT:
        """The body of a request.

        Raises:
            Problem: it is not what is asked for.
        """
        return await read_body(request, kind, bytes_max=self.deps.body_bytes_max)

    def by(self, request: Request) -> Principal:
        """Who asks, as far as the credential says so."""
        return self.deps.principal(request)

    def key(self, request: Request) -> str:
        """What makes this request the same as one sent before; a fresh one without a header.

        Raises:
            Problem: it is too long.
        """
        key = request.headers.get(KEY_HEADER)
        if key is None:
            return self.deps.new_id()
        if not 0 < len(key) <= KEY_CHARS_MAX:
            detail = f"The Idempotency-Key must have 1 to {KEY_CHARS_MAX} characters."
            raise Problem(422, "bad_key", detail)
        return key
