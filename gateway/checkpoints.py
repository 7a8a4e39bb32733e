"""The routes that show a run at a step, and what two steps differ in. Not the list: see `reads`."""

import re
from typing import Annotated, Any

from pydantic import Field

from commands.comparing import At, compare, run_at, state_facts
from domain.errors import Rejected
from domain.ids import TOKEN
from gateway.deps import GatewayDeps
from gateway.finding import find_run
from gateway.models.checkpoints import (
    CheckpointFacts,
    CheckpointShown,
    Diff,
    FileChanged,
    StateChange,
)
from gateway.operations import Asked, Operation
from gateway.parameters import Query
from gateway.problems import Problem
from gateway.stored import Where

STEP = re.compile(r"[0-9]{1,9}")
PLACE = r"^([A-Za-z0-9_-]{1,64}@)?[0-9]{1,9}$"


class DiffQuery(Query):
    """Which two checkpoints."""

    a: Annotated[str, Field(pattern=PLACE)]
    """A step of the run; 0 is the beginning. `RUN@STEP` is a step of another run."""
    b: Annotated[str, Field(pattern=PLACE)]
    """The same, of what is compared with it."""
    path: str = Field(default="", max_length=4096)
    """Of files: only this one, with its lines, or only what is in this folder."""


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """One checkpoint, and two compared."""
    checkpoints = Shown(deps)
    return (
        Operation(
            "GET",
            "/v1/runs/{run}/checkpoints/{step}",
            "get_checkpoint",
            "viewer",
            "A run as it was at the end of a step; 0 is the beginning",
            checkpoints.one,
            CheckpointShown,
            problems=(409,),
        ),
        Operation(
            "GET",
            "/v1/runs/{run}/diff",
            "diff_checkpoints",
            "viewer",
            "What two checkpoints differ in: state, messages and files",
            checkpoints.diff,
            Diff,
            query=DiffQuery,
            problems=(409,),
        ),
    )


class Shown:
    """The handlers."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps

    async def one(self, asked: Asked[Any, Any]) -> CheckpointShown:
        """`GET /v1/runs/{run}/checkpoints/{step}`.

        Raises:
            Problem: there is no such run or step.
            Unavailable: the log is away.
            IntegrityViolated: what is stored is not what was written.
        """
        at = await self._at(asked, asked.part("run"), asked.part("step"))
        return CheckpointShown.model_validate(
            {
                "checkpoint": _facts(at),
                "state": state_facts(at.state, "", ()),
                "messages": [message.model_dump(mode="json") for message in at.messages],
            }
        )

    async def diff(self, asked: Asked[DiffQuery, Any]) -> Diff:
        """`GET /v1/runs/{run}/diff`.

        Raises:
            Problem: there is no such run or step.
            Unavailable: the log or the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        query, run = asked.query, asked.part("run")
        first, second = [await self._place(asked, run, one) for one in (query.a, query.b)]
        found = compare(first, second)
        files, problem = await self._files(first, second, query.path)
        return Diff(
            run=first.ref.run,
            a=_facts(first),
            b=_facts(second),
            state=[
                StateChange(name=name, before=was, after=now)
                for name, (was, now) in found.state.items()
            ],
            messages=found.messages,
            files=files,
            files_problem=problem,
        )

    async def _files(
        self, first: At, second: At, path: str
    ) -> tuple[list[FileChanged] | None, str | None]:
        try:
            found = await self._deps.files.changes(_where(first), _where(second), path)
        except Rejected as refused:
            return None, refused.message
        return [FileChanged(path=one.path, what=one.what, diff=one.diff) for one in found], None

    async def _place(self, asked: Asked[Any, Any], run: str, text: str) -> At:
        name, _, step = text.rpartition("@")
        return await self._at(asked, name or run, step)

    async def _at(self, asked: Asked[Any, Any], run: str, step: str) -> At:
        if STEP.fullmatch(step) is None or TOKEN.fullmatch(run) is None:
            raise Problem(404, "no_such_step", "A checkpoint is named by the number of its step.")
        ref = await find_run(self._deps, asked, name=run)
        try:
            return await run_at(self._deps.backbone.log, ref, int(step))
        except Rejected as refused:
            status = 404 if refused.code == "no_such_step" else 409
            raise Problem(status, refused.code, refused.message) from None


def _facts(at: At) -> CheckpointFacts:
    point = at.point
    return CheckpointFacts(
        job=point.job,
        run=point.run,
        step=point.step,
        version=point.version,
        at_ms=point.at_ms,
        tokens=point.tokens,
        said=point.said,
        tools=list(point.tools),
        snapshot=point.snapshot,
    )


def _where(at: At) -> Where:
    return Where(at.owner, at.point.step)
