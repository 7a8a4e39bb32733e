"""Serves the files of the console from memory, tagged by digest. Not what is in them."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.auth.outside import PAGE_POLICY

FOLDER = Path(__file__).parent / "page"
START = "index.html"

MEDIA_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""What the console is made of; a file of any other kind is not served."""

POLICY = f"{PAGE_POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"
"""What the page may do. The last two: the browser itself refuses to read a text as markup."""

CACHE = "no-cache"
"""Keep it, but ask whether it is still the same: after an update no page is of two releases."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file, ready to be sent."""

    content: bytes
    media_type: str
    tag: str


def _path_of(name: str) -> str:
    return "/" if name == START else f"/console/{name}"


def _names() -> list[str]:
    return sorted(path.name for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)


def console_paths() -> frozenset[str]:
    """Where the files are: exactly these paths, whatever a request makes of them."""
    return frozenset(_path_of(name) for name in _names())


def console_routes() -> list[Route]:
    """A route for each file."""
    return [Route(_path_of(name), _serving(_read(FOLDER / name))) for name in _names()]


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return PageFile(content, MEDIA_TYPES[path.suffix], tag)


def _serving(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
    headers = {"ETag": file.tag, "Cache-Control": CACHE}
    if file.media_type == "text/html":
        headers["Content-Security-Policy"] = POLICY

    async def serve(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if file.tag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return serve
