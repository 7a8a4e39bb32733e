"""Deleting and exporting jobs, asked over HTTP. Not how that is done: deps bring it."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Any, Protocol

from starlette.responses import Response, StreamingResponse

from commands.delete_job import Deleted
from commands.survey import JobName
from domain.events import Principal
from domain.ids import TOKEN
from gateway.contents import GUARD
from gateway.models.retained import DeletedJob
from gateway.operations import Asked, Operation
from gateway.problems import Problem

TAG = "jobs"
ZIP = "application/zip"
PIECE_BYTES = 256 * 1024
MEMORY_BYTES = 4 * 1024 * 1024
"""How much of an export is kept in memory, in bytes; beyond, it is a file without a name."""


class Retaining(Protocol):
    """Deletes and exports jobs of the deployment."""

    async def delete(self, name: JobName, by: Principal) -> Deleted:
        """Delete a job, or go on with that.

        Raises:
            Rejected: `no_such_job`, `not_at_rest`, or `has_forks`.
            Unavailable: not now, or not all of it yet.
            IntegrityViolated: it is damaged.
        """
        ...

    async def export(self, name: JobName, file: IO[bytes]) -> None:
        """Write a job into a file.

        Raises:
            Rejected: `no_such_job`, or `gone`.
            Unavailable: the store is away.
            IntegrityViolated: it is damaged.
        """
        ...


def operations(retaining: Retaining | None) -> tuple[Operation, ...]:
    """Those of retention."""
    routes = RetainedRoutes(retaining)
    return (
        Operation(
            "DELETE",
            "/v1/jobs/{job}",
            "delete_job",
            "admin",
            "Delete a job at rest, with all its runs, for good",
            routes.delete,
            DeletedJob,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "GET",
            "/v1/jobs/{job}/export",
            "export_job",
            "admin",
            "A job as one file, which `peritus import` reads",
            routes.export,
            ZIP,
            problems=(409,),
            tag=TAG,
        ),
    )


class RetainedRoutes:
    """The handlers."""

    def __init__(self, retaining: Retaining | None) -> None:
        self._retaining = retaining

    async def delete(self, asked: Asked[Any, Any]) -> DeletedJob:
        """`DELETE /v1/jobs/{job}`.

        Raises:
            Problem: there is no such job here, or this gateway deletes none.
            Rejected: it is at work, or has forks.
            Unavailable: not now, or not all of it yet.
            IntegrityViolated: it is damaged.
        """
        name = _named(asked)
        deleted = await self._able().delete(name, asked.caller.principal)
        return DeletedJob(
            job=deleted.job,
            runs=deleted.runs,
            envelopes=deleted.envelopes,
            deleted_at_ms=deleted.at_ms,
            kept_by=list(deleted.kept_by),
        )

    async def export(self, asked: Asked[Any, Any]) -> Response:
        """`GET /v1/jobs/{job}/export`.

        Raises:
            Problem: there is no such job here, or this gateway exports none.
            Rejected: it was deleted.
            Unavailable: the store is away.
            IntegrityViolated: it is damaged.
        """
        name = _named(asked)
        retaining = self._able()
        file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - sent later
        try:
            await retaining.export(name, file)
            size = await asyncio.to_thread(file.tell)
            await asyncio.to_thread(file.seek, 0)
        except BaseException:
            file.close()
            raise
        headers = {
            **GUARD,
            "Content-Disposition": f'attachment; filename="{name.job}.peritus.zip"',
            "Content-Length": str(size),
            "Cache-Control": "no-store",
        }
        return StreamingResponse(_pieces(file), media_type=ZIP, headers=headers)

    def _able(self) -> Retaining:
        if self._retaining is None:
            raise Problem(409, "no_retention", "This gateway neither deletes nor exports jobs.")
        return self._retaining


def _named(asked: Asked[Any, Any]) -> JobName:
    job = asked.part("job")
    if TOKEN.fullmatch(job) is None:
        raise Problem(404, "no_such_job", "There is no such job.")
    return JobName(asked.tenant, job)


async def _pieces(file: IO[bytes]) -> AsyncGenerator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
