"""The routes that ask something of a run: start, continue, cancel. Not decisions, not queries."""

import asyncio
import difflib

from starlette.requests import Request
from starlette.responses import Response

from commands.task import task_of
from domain.commands import CancelRun, ContinueRun, StartRun
from domain.content import TextPart
from domain.definition import Definition
from domain.ids import RunRef, derive_id
from domain.limits import Limits
from domain.record import canonical, digest_of
from gateway.asking import Asking
from gateway.bodies import CancelBody, ContinueBody, StartBody
from gateway.finding import find_run
from gateway.problems import Problem


class Writes(Asking):
    """The handlers; each answers when the command is decided, or stored to be."""

    async def start(self, request: Request) -> Response:
        """`POST /v1/runs`: the same idempotency key starts one run, however often it is sent.

        Raises:
            Problem: the body is wrong, or the key was used for another request.
            Rejected: the definition cannot be used.
            Unavailable: the command was neither handled nor stored.
        """
        body = await self.body(request, StartBody)
        tenant, key = self.deps.tenant(request), self.key(request)
        name = body.job or derive_id("run", tenant, key)
        ref = RunRef(tenant, name, name)  # a job has one root, which has its name
        definition = await asyncio.to_thread(
            self.deps.definitions, provider=body.provider, model=body.model
        )
        _check_expert(definition, body.expert)
        task = task_of(definition.expert(body.expert), body.query, body.data)
        definition = await self.deps.known(ref, definition, body.expert)
        digest = await self.deps.backbone.blobs.put(tenant, definition.to_bytes())
        command = StartRun(
            id=derive_id("start", key, digest_of(canonical(body))),
            expert=body.expert,
            definition=digest,
            parts=(TextPart(text=task),),
            limits=_limits(definition, body.limits),
            by=self.by(request),
        )
        return await self.submit(request, ref, command)

    async def go_on(self, request: Request) -> Response:
        """`POST /v1/runs/{id}/continue`: a run at rest goes on, a running one hears it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: the run cannot be continued.
            Unavailable: the command was neither handled nor stored.
        """
        body = await self.body(request, ContinueBody)
        ref = await find_run(self.deps, request)
        command = ContinueRun(
            id=derive_id("continue", *ref, self.key(request)),
            parts=(TextPart(text=body.query),) if body.query else (),
            steps_max=body.steps_max,
            tokens_max=body.tokens_max,
            money_max=body.money_max,
            tool_calls_max=body.tool_calls_max,
            wall_ms_max=body.wall_ms_max,
            by=self.by(request),
        )
        return await self.submit(request, ref, command)

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/runs/{id}/cancel`: stop a run and everything under it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Unavailable: the command was neither handled nor stored.
        """
        body = await self.body(request, CancelBody)
        ref = await find_run(self.deps, request)
        command = CancelRun(
            id=derive_id("cancel", *ref, self.key(request)),
            reason=body.reason,
            by=self.by(request),
        )
        return await self.submit(request, ref, command)


def _limits(definition: Definition, given: dict[str, int]) -> Limits | None:
    return definition.limits.model_copy(update=given) if given else None


def _check_expert(definition: Definition, key: str) -> None:
    """Refuse an unknown expert without saying its name back."""
    if key in definition.experts:
        return
    near = difflib.get_close_matches(key, definition.experts, n=1)
    known = ", ".join(sorted(definition.experts)) or "none"
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {known}"
    raise Problem(422, "unknown_expert", f"expert: no such expert is defined; {hint}")
