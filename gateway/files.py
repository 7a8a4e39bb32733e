"""The routes to the files of snapshots: what there is, and one of them. Never the workspace."""

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from domain.errors import NoSuchRun, Rejected
from domain.ids import TOKEN, RunRef
from gateway.contents import (
    ASK_AGAIN,
    BINARY,
    content_headers,
    media_type_of_name,
    not_modified,
    streamed,
)
from gateway.deps import GatewayDeps
from gateway.finding import find_run
from gateway.models.rest import File, Files
from gateway.operations import Asked, Operation
from gateway.parameters import NUMBER, Query, number_of
from gateway.problems import Problem
from gateway.stored import Listed, StoredFile, Where

TAG = "files"
STEP_MAX = 1_000_000_000
LIMIT_MAX = 10_000

Step = Annotated[int, Field(ge=0, le=STEP_MAX), NUMBER]


class FilesQuery(Query):
    """Which files."""

    step: Step | None = None
    """As of the end of this step; without it, of the newest snapshot."""
    path: str = Field(default="", max_length=4096)
    """This file, or what is in this folder."""
    limit: Annotated[int, Field(ge=1), NUMBER] | None = None
    """How many at most; a number above the largest that is answered means that one."""
    cursor: str | None = Field(default=None, max_length=400)
    """`next_cursor` of the answer before."""


class FileQuery(Query):
    """Which version of a file."""

    step: Step | None = None
    """As of the end of this step; without it, of the newest snapshot."""
    run: str | None = Field(default=None, max_length=64)
    """A run of the job that has a workspace of its own; without it, the job's."""


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Files of a run, files of a job, one file."""
    files = FilesOfJobs(deps)
    return (
        Operation(
            "GET",
            "/v1/runs/{run}/files",
            "list_run_files",
            "viewer",
            "The files of a run's workspace, as of a step or the newest snapshot",
            files.of_run,
            Files,
            query=FilesQuery,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "GET",
            "/v1/jobs/{job}/files",
            "list_job_files",
            "viewer",
            "The files of a job's workspace, as of a step of its first run or the newest snapshot",
            files.of_job,
            Files,
            query=FilesQuery,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "GET",
            "/v1/jobs/{job}/files/{path:path}",
            "get_file",
            "viewer",
            "The content of one file; `If-None-Match` with its ETag asks for another one only",
            files.content,
            BINARY,
            query=FileQuery,
            problems=(409,),
            tag=TAG,
        ),
    )


class FilesOfJobs:
    """The handlers."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps

    async def of_run(self, asked: Asked[FilesQuery, Any]) -> Files:
        """`GET /v1/runs/{run}/files`.

        Raises:
            Problem: there is no such run, step or path.
            Unavailable: the log or the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        return await self._list(await find_run(self._deps, asked), asked.query)

    async def of_job(self, asked: Asked[FilesQuery, Any]) -> Files:
        """`GET /v1/jobs/{job}/files`.

        Raises:
            Problem: there is no such job, step or path.
            Unavailable: the log or the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        return await self._list(await self._root(asked), asked.query)

    async def content(self, asked: Asked[FileQuery, Any]) -> Response:
        """`GET /v1/jobs/{job}/files/{path}`.

        Raises:
            Problem: there is no such job, run, step or file, or its content is not stored.
            Unavailable: the log or the store is away.
            IntegrityViolated: what is stored is not what was written.
        """
        job, query = await self._root(asked), asked.query
        ref = job if query.run is None else await find_run(self._deps, asked, name=query.run)
        if ref.job != job.job:
            raise Problem.no_such_run()
        try:
            found = await self._deps.files.open(Where(ref, query.step), asked.part("path"))
        except Rejected as refused:
            raise _problem(refused) from None
        name = found.path.rpartition("/")[2]
        headers = content_headers(name, found.digest, ASK_AGAIN)
        known = not_modified(asked.request, headers)
        if known is not None:
            return known
        return await streamed(found.pieces, found.size, media_type_of_name(name), headers)

    async def _list(self, ref: RunRef, query: FilesQuery) -> Files:
        try:
            found = await self._deps.files.list(Where(ref, query.step), query.path)
        except Rejected as refused:
            raise _problem(refused) from None
        if found is None:
            return Files(job=ref.job, run=ref.run, step=None, files=[])
        start, end = _page(query, found)
        return Files(
            job=ref.job,
            run=found.run,
            step=found.step,
            files=[_file(one) for one in found.files[start:end]],
            next_cursor=f"{end}-{found.name}" if end < len(found.files) else None,
        )

    async def _root(self, asked: Asked[Any, Any]) -> RunRef:
        """The first run of a job, which has its name."""
        job = asked.part("job")
        ref = None
        if TOKEN.fullmatch(job):
            ref = await self._deps.backbone.log.find(asked.tenant, job)
        if ref is None or ref.job != job:
            raise Problem(404, "no_such_job", "There is no such job.")
        return ref


def _file(one: StoredFile) -> File:
    return File(
        path=one.path,
        kind=one.kind,
        bytes=one.bytes,
        digest=one.digest,
        missing=one.missing or None,
    )


def _page(query: FilesQuery, found: Listed) -> tuple[int, int]:
    """Which of the files are meant. A cursor belongs to one snapshot: places in it are numbers.

    Raises:
        Problem: the cursor is none, or there is another snapshot by now.
    """
    start, name = 0, found.name
    if query.cursor is not None:
        number, _, name = query.cursor.partition("-")
        start = number_of(number) or 0
    if name != found.name:
        detail = "There are other files by now: leave the cursor out to begin again."
        raise Problem(409, "other_snapshot", detail)
    return start, start + min(query.limit or LIMIT_MAX, LIMIT_MAX)


def _problem(refused: Rejected) -> Problem:
    """What is not there, in words that repeat nothing of the request (C15)."""
    if isinstance(refused, NoSuchRun):
        return Problem.no_such_run()
    match refused.code:
        case "no_snapshot":
            return Problem(404, refused.code, f"There are no files of then: {refused.message}")
        case "no_such_file":
            return Problem(404, refused.code, "There is no such file in the snapshot.")
        case _:
            detail = "It is no file, or its content is not in the snapshot: see the list of files."
            return Problem(409, refused.code, detail)
