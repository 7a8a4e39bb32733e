"""The routes that tell what there is to ask: the OpenAPI document, and a page that shows it."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import orjson
from starlette.responses import Response

from gateway.openapi import document
from gateway.operations import JSON_TYPE, Asked, Operation

TAG = "about"
PAGE = files("gateway.docs")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
STATIC = {
    "/v1/docs": ("docs_page", "docs.html", "text/html; charset=utf-8"),
    "/v1/docs/docs.js": ("docs_script", "docs.js", "text/javascript; charset=utf-8"),
    "/v1/docs/docs.css": ("docs_style", "docs.css", "text/css; charset=utf-8"),
}


def operations(others: Sequence[Operation]) -> tuple[Operation, ...]:
    """What tells of the others, and of itself."""
    made: list[bytes] = []

    async def told(asked: Asked[Any, Any]) -> Response:
        del asked
        if not made:  # once: it is the same for everybody
            made.append(orjson.dumps(document((*others, itself))))
        return Response(made[0], media_type=JSON_TYPE, headers={"Cache-Control": "no-cache"})

    itself = Operation(
        "GET",
        "/v1/openapi.json",
        "get_openapi",
        "viewer",
        "This document",
        told,
        JSON_TYPE,
        tag=TAG,
        open=True,
    )
    return (itself, *(_static(path, *it) for path, it in STATIC.items()))


def _static(path: str, name: str, file: str, media_type: str) -> Operation:
    content = PAGE.joinpath(file).read_bytes()

    async def page(asked: Asked[Any, Any]) -> Response:
        del asked
        return Response(content, media_type=media_type, headers=HEADERS)

    return Operation(
        "GET",
        path,
        name,
        "viewer",
        "A page that shows it",
        page,
        media_type,
        open=True,
        shown=False,
    )
