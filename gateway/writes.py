"""The routes that ask something of a run: start, continue, cancel. Not decisions, not queries."""

import asyncio
from typing import Any

from commands.task import task_of
from domain.commands import CancelRun, ContinueRun, StartRun
from domain.content import TextPart
from domain.definition import Definition
from domain.ids import RunRef, derive_id
from domain.limits import Limits
from domain.record import canonical, digest_of
from gateway.asking import Asking, check_expert, check_permitted
from gateway.bodies import CancelBody, ContinueBody, StartBody
from gateway.deps import GatewayDeps
from gateway.finding import find_run
from gateway.models.common import Accepted
from gateway.operations import Asked, Operation


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """What they are asked by."""
    writes = Writes(deps)
    return (
        Operation(
            "POST",
            "/v1/runs",
            "start_run",
            "operator",
            "Start a run of an expert",
            writes.start,
            Accepted,
            status=202,
            body=StartBody,
            problems=(409,),
            description="The answer comes when the start is decided, or stored to be: `position` "
            "says which. The same key again starts nothing.",
            examples={
                "text": {"expert": "coder", "query": "Write a haiku into haiku.txt"},
                "limits": {"expert": "coder", "query": "Tidy up", "job": "tidy-1", "maxSteps": 20},
            },
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/continue",
            "continue_run",
            "operator",
            "Say something to a run: it goes on, or hears it while it works",
            writes.go_on,
            Accepted,
            status=202,
            body=ContinueBody,
            problems=(409,),
            examples={"text": {"query": "Now add a title"}},
        ),
        Operation(
            "POST",
            "/v1/runs/{run}/cancel",
            "cancel_run",
            "operator",
            "Stop a run and everything under it",
            writes.cancel,
            Accepted,
            status=202,
            body=CancelBody,
            problems=(409,),
            examples={"reason": {"reason": "not needed any more"}},
        ),
    )


class Writes(Asking):
    """The handlers; each answers when the command is decided, or stored to be."""

    async def start(self, asked: Asked[Any, StartBody]) -> Accepted:
        """`POST /v1/runs`: the same idempotency key starts one run, however often it is sent.

        Raises:
            Problem: the body is wrong, or the key was used for another request.
            Rejected: the definition cannot be used.
            Unavailable: the command was neither handled nor stored.
        """
        body, tenant, key = asked.body, asked.tenant, self.key(asked)
        check_permitted(asked, body.expert)
        name = body.job or derive_id("run", tenant, key)
        ref = RunRef(tenant, name, name)  # a job has one root, which has its name
        definition = await asyncio.to_thread(
            self.deps.definitions, provider=body.provider, model=body.model
        )
        check_expert(definition, body.expert)
        attached = await self.attached(asked, body.attachments)
        task = task_of(definition.expert(body.expert), body.query, body.data)
        definition = await self.deps.known(ref, definition, body.expert)
        digest = await self.deps.backbone.blobs.put(tenant, definition.to_bytes())
        command = StartRun(
            id=derive_id("start", *ref, key, digest_of(canonical(body))),
            expert=body.expert,
            definition=digest,
            parts=(TextPart(text=task), *attached),
            limits=_limits(definition, body.limits),
            by=asked.by,
        )
        return await self.submit(asked, ref, command)

    async def go_on(self, asked: Asked[Any, ContinueBody]) -> Accepted:
        """`POST /v1/runs/{id}/continue`: a run at rest goes on, a running one hears it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: the run cannot be continued.
            Unavailable: the command was neither handled nor stored.
        """
        body = asked.body
        ref = await find_run(self.deps, asked)
        attached = await self.attached(asked, body.attachments)
        said = (TextPart(text=body.query),) if body.query else ()
        command = ContinueRun(
            id=derive_id("continue", *ref, self.key(asked)),
            parts=(*said, *attached),
            steps_max=body.steps_max,
            tokens_max=body.tokens_max,
            money_max=body.money_max,
            tool_calls_max=body.tool_calls_max,
            wall_ms_max=body.wall_ms_max,
            by=asked.by,
        )
        return await self.submit(asked, ref, command)

    async def cancel(self, asked: Asked[Any, CancelBody]) -> Accepted:
        """`POST /v1/runs/{id}/cancel`: stop a run and everything under it.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Unavailable: the command was neither handled nor stored.
        """
        ref = await find_run(self.deps, asked)
        command = CancelRun(
            id=derive_id("cancel", *ref, self.key(asked)),
            reason=asked.body.reason,
            by=asked.by,
        )
        return await self.submit(asked, ref, command)


def _limits(definition: Definition, given: dict[str, int]) -> Limits | None:
    return definition.limits.model_copy(update=given) if given else None
