"""The routes that tell whom there is to start. Not what experts do: the definition says it."""

import asyncio
import difflib
from typing import Any

from domain import definition as d
from gateway.deps import GatewayDeps
from gateway.models.rest import Expert, Experts
from gateway.operations import Asked, Operation
from gateway.problems import Problem

TAG = "experts"


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """All experts, and one."""
    experts = Told(deps)
    return (
        Operation(
            "GET",
            "/v1/experts",
            "list_experts",
            "viewer",
            "The experts that the caller may start",
            experts.all,
            Experts,
            problems=(409, 422),
            tag=TAG,
        ),
        Operation(
            "GET",
            "/v1/experts/{expert}",
            "get_expert",
            "viewer",
            "One expert: its model, skills, delegates and schemas",
            experts.one,
            Expert,
            problems=(409, 422),
            tag=TAG,
        ),
    )


class Told:
    """The handlers. The definition is read anew: an edit counts for the next run."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps

    async def all(self, asked: Asked[Any, Any]) -> Experts:
        """`GET /v1/experts`.

        Raises:
            Rejected: the definition cannot be used.
        """
        found = await self._known(asked)
        return Experts(experts=[expert_of(one) for _, one in sorted(found.items())])

    async def one(self, asked: Asked[Any, Any]) -> Expert:
        """`GET /v1/experts/{expert}`.

        Raises:
            Problem: there is no such expert, or the caller may not start it.
            Rejected: the definition cannot be used.
        """
        found, key = await self._known(asked), asked.part("expert")
        if key not in found:
            near = difflib.get_close_matches(key, found, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise Problem(404, "no_such_expert", f"There is no such expert{hint}")
        return expert_of(found[key])

    async def _known(self, asked: Asked[Any, Any]) -> dict[str, d.Expert]:
        definition = await asyncio.to_thread(self._deps.definitions, provider=None, model=None)
        may = asked.caller.experts
        return {key: one for key, one in definition.experts.items() if may is None or key in may}


def expert_of(one: d.Expert) -> Expert:
    """An expert as clients see it, without its instruction."""
    return Expert(
        expert=one.key,
        description=one.description,
        provider=one.model.provider,
        model=one.model.model,
        skills=sorted(one.skills),
        delegates=list(one.delegates),
        input_schema=one.input_schema,
        output_schema=one.output_schema,
    )
