"""How content that others wrote is handed out: to be saved, never shown as a page of ours."""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

BINARY = "application/octet-stream"
PLAIN = re.compile(r"[^A-Za-z0-9._-]")

SAFE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "log": "text/plain; charset=utf-8",
    "diff": "text/plain; charset=utf-8",
}
"""By the end of a name: types that no browser runs anything of. All others are just bytes."""

FOREVER = "private, max-age=31536000, immutable"
ASK_AGAIN = "private, no-cache"
"""It may be kept, and is only used when its tag is still that of what is there."""

GUARD = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def content_headers(name: str, digest: str, cache: str) -> dict[str, str]:
    """The head of an answer that is a file of that name and digest."""
    plain = "".join(
        one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in name
    )
    exact = quote(name, safe="", errors="surrogateescape")
    return {
        **GUARD,
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}",
        "ETag": f'"{digest}"',
        "Cache-Control": cache,
    }


def media_type_of_name(name: str) -> str:
    """What a file is said to be by its name, if that is nothing a browser would run."""
    return SAFE_TYPES.get(name.rpartition(".")[2].lower(), BINARY)


def not_modified(request: Request, headers: dict[str, str]) -> Response | None:
    """The answer to whoever has it already; None: it has to be sent."""
    known = request.headers.get("if-none-match", "")
    tags = {one.strip().removeprefix("W/") for one in known.split(",")}
    if headers["ETag"] in tags or "*" in tags:
        return Response(status_code=304, headers=headers)
    return None


async def streamed(
    pieces: AsyncIterator[bytes], size: int, media_type: str, headers: dict[str, str]
) -> Response:
    """An answer made of pieces. The first is there before it begins, so what fails is a problem.

    Raises:
        Unavailable: the store is away.
        IntegrityViolated: the content is gone, or is not what was stored.
    """
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = {**headers, "Content-Length": str(size)}
    return StreamingResponse(all_pieces(), media_type=media_type, headers=headers)
