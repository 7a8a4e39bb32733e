"""The routes that ask something of a run: start, continue, cancel. Not decisions, not queries."""

import asyncio
import difflib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from commands.client import CommandClient
from commands.offload import offload
from domain.commands import CancelRun, Command, ContinueRun, StartRun
from domain.content import TextPart
from domain.definition import Definition
from domain.ids import RunRef, derive_id
from domain.limits import Limits
from domain.record import canonical, digest_of
from eventlog.port import Cursor
from gateway.bodies import BodyT, CancelBody, ContinueBody, StartBody, read_body
from gateway.deps import GatewayDeps
from gateway.finding import find_run
from gateway.problems import Problem
from gateway.shapes import json_answer, links

KEY_HEADER = "idempotency-key"
KEY_CHARS_MAX = 256


class Writes:
    """The handlers; each answers when the command is decided, or stored to be."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps
        self._log = deps.backbone.log
        self._client = CommandClient(deps.backbone, deps.redactor)

    async def start(self, request: Request) -> Response:
        """`POST /v1/runs`: the same idempotency key starts one run, however often it is sent.

        Raises:
            Problem: the body is wrong, or the key was used for another request.
            Rejected: the definition cannot be used.
            Unavailable: the command was neither handled nor stored.
        """
        body = await self._body(request, StartBody)
        tenant, key = self._deps.tenant(request), self._key(request)
        name = body.job or derive_id("run", tenant, key)
        ref = RunRef(tenant, name, name)  # a job has one root, which has its name
        definition = await asyncio.to_thread(
            self._deps.definitions, provider=body.provider, model=body.model
        )
        _check_expert(definition, body.expert)
        digest = await self._deps.backbone.blobs.put(tenant, definition.to_bytes())
        command = StartRun(
            id=derive_id("start", key, digest_of(canonical(body))),
            expert=body.expert,
            definition=digest,
            parts=(TextPart(text=body.query),),
            limits=_limits(definition, body.steps_max),
        )
        return await self._submit(request, ref, command)

    async def go_on(self, request: Request) -> Response:
        """`POST /v1/runs/{id}/continue`: a run at rest goes on, a running one hears it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: the run cannot be continued.
            Unavailable: the command was neither handled nor stored.
        """
        body = await self._body(request, ContinueBody)
        ref = await find_run(self._deps, request)
        command = ContinueRun(
            id=derive_id("continue", *ref, self._key(request)),
            parts=(TextPart(text=body.query),) if body.query else (),
            steps_max=body.steps_max,
            tokens_max=body.tokens_max,
        )
        return await self._submit(request, ref, command)

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/runs/{id}/cancel`: stop a run and everything under it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Unavailable: the command was neither handled nor stored.
        """
        body = await self._body(request, CancelBody)
        ref = await find_run(self._deps, request)
        command = CancelRun(id=derive_id("cancel", *ref, self._key(request)), reason=body.reason)
        return await self._submit(request, ref, command)

    async def _submit(
        self, request: Request, ref: RunRef, command: StartRun | ContinueRun | CancelRun
    ) -> Response:
        slim, blobs = offload(command)
        for data in blobs.values():
            await self._deps.backbone.blobs.put(ref.tenant, data)
        decided = await self._ask(ref, slim, command.id)
        position: str | None = None
        if decided:  # the log's end now is at or after what was appended: enough to wait for
            position = str(Cursor(self._log.incarnation, (await self._log.bounds())[1]))
        body: dict[str, Any] = {"run": ref.run, "job": ref.job, "position": position}
        body |= links(request, ref.run)
        if not decided:  # the log may not know the run yet, so the stream has to be told its job
            body["events_url"] += f"?job={ref.job}"
        return json_answer(body, status=202)

    async def _ask(self, ref: RunRef, command: Command, message_id: str) -> bool:
        """Whether it is decided already; else it is stored, and will be."""
        return await self._client.submit(ref, command, message_id) is not None

    async def _body(self, request: Request, kind: type[BodyT]) -> BodyT:
        return await read_body(request, kind, bytes_max=self._deps.body_bytes_max)

    def _key(self, request: Request) -> str:
        key = request.headers.get(KEY_HEADER)
        if key is None:
            return self._deps.new_id()
        if not 0 < len(key) <= KEY_CHARS_MAX:
            detail = f"The Idempotency-Key must have 1 to {KEY_CHARS_MAX} characters."
            raise Problem(422, "bad_key", detail)
        return key


def _limits(definition: Definition, steps_max: int | None) -> Limits | None:
    if steps_max is None:
        return None
    return definition.limits.model_copy(update={"steps_max": steps_max})


def _check_expert(definition: Definition, key: str) -> None:
    """Refuse an unknown expert without saying its name back."""
    if key in definition.experts:
        return
    near = difflib.get_close_matches(key, definition.experts, n=1)
    known = ", ".join(sorted(definition.experts)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {known}"
    raise Problem(422, "unknown_expert", f"expert: no such expert is defined; {hint}")
