"""The routes to content by its digest: large results are there, and what people hand in."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from domain.errors import NoSuchBlob
from gateway.contents import BINARY, FOREVER, content_headers, not_modified
from gateway.deps import GatewayDeps
from gateway.models.rest import Uploaded
from gateway.operations import Asked, NothingSent, Operation
from gateway.parameters import Query
from gateway.problems import Problem

TAG = "files"
DIGEST = re.compile(r"[0-9a-f]{64}")
MEDIA_TYPE_CHARS_MAX = 200

UPLOAD_S = 300
UPLOADS_AT_ONCE = 4
"""How many are taken in at once: each is held in memory until it is stored."""


class UploadQuery(Query):
    """What is known of the content before it is sent."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Its SHA-256: what comes otherwise is refused."""


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """One blob, and what people hand in."""
    blobs = BlobRoutes(deps)
    return (
        Operation(
            "GET",
            "/v1/blobs/{digest}",
            "get_blob",
            "viewer",
            "Content by its digest, as events and answers name it; it never changes",
            blobs.get,
            BINARY,
            tag=TAG,
        ),
        Operation(
            "POST",
            "/v1/uploads",
            "upload",
            "operator",
            "Store content, to be attached to what is said to a run; the same again is the same",
            blobs.upload,
            Uploaded,
            status=201,
            query=UploadQuery,
            body=NothingSent,
            body_media_type="application/octet-stream",
            problems=(408,),
            tag=TAG,
            description="Images, PDFs and texts can be attached when a run starts or goes on. The "
            "content type is told back, and not kept.",
        ),
    )


class BlobRoutes:
    """The handlers."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps
        self._room = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def get(self, asked: Asked[Any, Any]) -> Response:
        """`GET /v1/blobs/{digest}`.

        Raises:
            Problem: the tenant has no such content.
            Unavailable: the store is away.
            IntegrityViolated: it is not what was stored.
        """
        digest = asked.part("digest")
        missing = Problem(404, "no_such_blob", "There is no such content.")
        if DIGEST.fullmatch(digest) is None:
            raise missing
        try:
            data = await self._deps.backbone.blobs.get(asked.tenant, digest)
        except NoSuchBlob:
            raise missing from None
        headers = content_headers(digest, digest, FOREVER)
        known = not_modified(asked.request, headers)
        return known or Response(data, media_type=BINARY, headers=headers)

    async def upload(self, asked: Asked[UploadQuery, Any]) -> Uploaded:
        """`POST /v1/uploads`.

        Raises:
            Problem: it is too large, or not what its digest says.
            Unavailable: it is not stored.
        """
        most = self._deps.upload_bytes_max
        too_large = Problem(413, "too_large", f"An upload may have {most} bytes.")
        said = asked.request.headers.get("content-length", "")
        if said.isdecimal() and (len(said) > len(str(most)) or int(said) > most):
            raise too_large
        async with self._room, _in_time():
            data, seen = bytearray(), hashlib.sha256()
            async for piece in _pieces(asked.request):
                data += piece
                if len(data) > most:
                    raise too_large
                seen.update(piece)
            if asked.query.digest not in (None, seen.hexdigest()):
                detail = "What came has another digest: it was changed or cut on its way."
                raise Problem(422, "other_digest", detail)
            digest = await self._deps.backbone.blobs.put(asked.tenant, bytes(data))
        media_type = asked.request.headers.get("content-type", "").partition(";")[0].strip()
        return Uploaded(
            digest=digest,
            bytes=len(data),
            media_type=media_type.lower()[:MEDIA_TYPE_CHARS_MAX] or BINARY,
        )


@asynccontextmanager
async def _in_time() -> AsyncGenerator[None]:
    """Let nobody keep the others waiting who sends drop by drop.

    Raises:
        Problem: it took too long.
    """
    try:
        async with asyncio.timeout(UPLOAD_S):
            yield
    except TimeoutError:
        detail = f"An upload has to be there within {UPLOAD_S} seconds."
        raise Problem(408, "too_slow", detail) from None


def _pieces(request: Request) -> AsyncIterator[bytes]:
    return request.stream()
