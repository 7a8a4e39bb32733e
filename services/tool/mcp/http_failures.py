"""What is said when an MCP server does not answer as it should over HTTP. No protocol in it."""

import json
import re
from typing import Any, cast

import httpx2

EXCERPT_CHARS_MAX = 300
"""How much of what a server says of its refusal is passed on."""

NOT_RUN = "The call did not run."
UNKNOWN = "Whether the call was done is not known."

GATEWAY_LOST = frozenset({502, 504})
"""Something between us and the server lost sight of it: it may have done what it was asked."""

LATER = frozenset({429, 502, 503, 504})
"""What may be otherwise next time."""

_DIGITS = re.compile(r"[0-9]{1,9}")


def refusal(response: httpx2.Response, *, hint: str) -> str:
    """Why a server refused a request, for who reads results; `hint`: what to do about a 401."""
    status = response.status_code
    match status:
        case 401:
            text = f"the server wants to know who asks (401): {hint}. {NOT_RUN}"
        case 403:
            text = f"the server does not allow that (403). {NOT_RUN}"
        case 429:
            after = _DIGITS.fullmatch(response.headers.get("retry-after", ""))
            wait = f"try again after {after[0]} s" if after else "try again later"
            text = f"the server has had too many requests (429): {wait}. {NOT_RUN}"
        case 502 | 504:
            text = f"the way to the server broke ({status}). {UNKNOWN}"
        case 503:
            text = f"the server is not available (503). {NOT_RUN}"
        case _:
            text = f"the server answered with HTTP status {status} instead of a result"
    said = excerpt(response)
    return f"{text} It says: {said}" if said else text


def excerpt(response: httpx2.Response) -> str:
    """The beginning of a text that was read, on one line."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("text/plain", "application/json", "application/problem+json"):
        return ""
    text = " ".join(response.text.split())
    return text if len(text) <= EXCERPT_CHARS_MAX else f"{text[:EXCERPT_CHARS_MAX]}…"


def rpc_error_code(response: httpx2.Response) -> int | None:
    """The code of a JSON-RPC error that was read as the body; None when it is none."""
    code = _error(response).get("code")
    return code if isinstance(code, int) else None


def rpc_error_text(response: httpx2.Response) -> str:
    """What a JSON-RPC error says that was read as the body."""
    return str(_error(response).get("message", ""))


def _error(response: httpx2.Response) -> dict[str, object]:
    is_json = response.headers.get("content-type", "").lower().startswith("application/json")
    if not is_json or b'"error"' not in response.content:
        return {}
    body = _object(response.content)
    error = body.get("error")
    if body.get("jsonrpc") != "2.0" or not isinstance(error, dict):
        return {}
    return cast("dict[str, object]", error)


def request_id(request: httpx2.Request) -> str | int | None:
    """The id of the JSON-RPC request that is sent; None for whatever else goes out."""
    if request.method != "POST":
        return None
    body = _object(request.content)
    found = body.get("id") if "method" in body else None
    return found if isinstance(found, str | int) else None


def error_answer(
    request: httpx2.Request, code: int, message: str, *, status: int = 400
) -> httpx2.Response:
    """An answer of our own that says in the protocol what went wrong."""
    error: dict[str, Any] = {"code": code, "message": message}
    body = {"jsonrpc": "2.0", "id": request_id(request), "error": error}
    return httpx2.Response(status, json=body, request=request)


def _object(data: bytes) -> dict[str, object]:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}
