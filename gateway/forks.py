"""The route that forks a run. Not the decision, and not how a fork's past is read."""

import asyncio
from typing import Any

from commands.checkpoints import find_beginning, state_of
from commands.redefine import pinned_definition, with_models
from domain.commands import ForkRun
from domain.content import TextPart
from domain.errors import Rejected
from domain.events import ResultEdit
from domain.folds.forks import merged
from domain.ids import RunRef, derive_id
from domain.record import canonical, digest_of
from gateway.asking import Asking, check_permitted
from gateway.bodies import ForkBody
from gateway.deps import GatewayDeps
from gateway.finding import find_run
from gateway.models.common import Accepted
from gateway.operations import Asked, Operation


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """What forks are asked by."""
    return (
        Operation(
            "POST",
            "/v1/runs/{run}/fork",
            "fork_run",
            "operator",
            "Go on from the end of a step in a run of its own",
            Forks(deps).fork,
            Accepted,
            status=202,
            body=ForkBody,
            problems=(409,),
            description="The fork has the past of its source up to there, with other results of "
            "calls if you say so; its files begin as they were then.",
            examples={"another way": {"fromStep": 2, "query": "Do it in Rust instead"}},
        ),
    )


class Forks(Asking):
    """The handler."""

    async def fork(self, asked: Asked[Any, ForkBody]) -> Accepted:
        """`POST /v1/runs/{id}/fork`: the same idempotency key forks once, however often it is sent.

        Raises:
            Problem: there is no such run, or the body is wrong.
            Rejected: that step has not ended, or the run cannot be forked so.
            Unavailable: the command was neither handled nor stored.
            IntegrityViolated: what is stored is not what was written.
        """
        body, tenant, key = asked.body, asked.tenant, self.key(asked)
        source = await find_run(self.deps, asked)
        await self._check_permitted(asked, source)
        name = body.job or derive_id("run", tenant, key)
        log = self.deps.backbone.log
        at = await find_beginning(log, source, body.step, says=bool(body.query))
        definition = await self._definition(source, body)
        edits = [
            ResultEdit(call=call, content=(TextPart(text=text),))
            for call, text in body.results.items()
        ]
        command = ForkRun(
            id=derive_id("fork", *source, key, digest_of(canonical(body))),
            source=at.source,
            parts=(TextPart(text=body.query),) if body.query else (),
            results=merged(at.results, edits),
            definition=definition,
            steps_max=body.steps_max,
            tokens_max=body.tokens_max,
            money_max=body.money_max,
            tool_calls_max=body.tool_calls_max,
            wall_ms_max=body.wall_ms_max,
            by=asked.by,
        )
        return await self.submit(asked, RunRef(tenant, name, name), command)

    async def _check_permitted(self, asked: Asked[Any, Any], source: RunRef) -> None:
        """Refuse a fork of an expert that the caller may not start."""
        if asked.caller.experts is not None:
            state = await state_of(self.deps.backbone.log, source)
            check_permitted(asked, state.expert)

    async def _definition(self, source: RunRef, body: ForkBody) -> str | None:
        """The digest of what the fork is pinned to, if its model is to be another."""
        if body.provider is None and body.model is None:
            return None
        blobs = self.deps.backbone.blobs
        state = await state_of(self.deps.backbone.log, source)
        loaded = await asyncio.to_thread(
            self.deps.definitions, provider=body.provider, model=body.model
        )
        if state.expert not in loaded.experts:
            message = f"expert {state.expert!r} is not defined any more, so no model can be chosen"
            raise Rejected("unknown_expert", message)
        pinned = await pinned_definition(blobs, state)
        return await blobs.put(source.tenant, with_models(pinned, loaded, state.expert).to_bytes())
