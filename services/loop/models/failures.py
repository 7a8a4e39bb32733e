"""What an HTTP answer or a broken stream means for a generation. Not the decision to try again."""

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from pydantic import JsonValue

from services.loop.models.port import FailureKind, ModelFailure

TEXT_CHARS_MAX = 2_000

_BY_STATUS: Mapping[int, FailureKind] = {
    401: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    409: "server",  # a conflict on the provider's side, over when asked again
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}

_BY_TYPE: Mapping[str, FailureKind] = {
    "authentication_error": "auth",
    "billing_error": "rejected",
    "content_policy_violation": "rejected",
    "context_length_exceeded": "rejected",
    "invalid_prompt": "rejected",
    "invalid_request_error": "rejected",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "request_too_large": "rejected",
    "timeout_error": "timeout",
}
"""Error types and codes that come inside a stream, after a status of 200."""

_NEVER_HELPS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that no waiting cures."""


def status_failure(
    provider: str, status: int, headers: Mapping[str, str], body: object, secret: str
) -> ModelFailure:
    """The failure of an error answer, or of an error event in a stream that began with a 200."""
    kind, text = _error_in(body)
    if status < 400:  # noqa: PLR2004 - not an error status: the error came inside the stream
        return stream_failure(provider, kind, text, secret)
    message = hide(f"{provider} answered {status}: {text or 'no reason given'}", secret)
    if kind in _NEVER_HELPS:
        return ModelFailure("rejected", message, status)
    by_default: FailureKind = "server" if status >= 500 else "rejected"  # noqa: PLR2004
    return ModelFailure(
        _BY_STATUS.get(status, by_default), message, status, retry_after_ms(headers)
    )


def stream_failure(provider: str, kind: str, text: str, secret: str) -> ModelFailure:
    """The failure an error event names; what it does not name clearly is the provider's trouble."""
    message = f"{provider} broke off with {kind or 'an error'}: {text or 'no reason given'}"
    return ModelFailure(_BY_TYPE.get(kind, "server"), hide(message, secret))


def hide(text: str, secret: str) -> str:
    """The text, not too long and without the key in it."""
    shown = text.replace(secret, "[key]") if secret else text
    return shown[:TEXT_CHARS_MAX]


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long the provider asks to wait; None when it does not say, or says nothing sensible.

    A date is measured against the answer's own `Date`, so no clock of ours takes part.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return int(exact)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return int(seconds * 1_000)
    date = headers.get("date")
    if value is None or date is None:
        return None
    try:
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(date)
    except (ValueError, TypeError):  # TypeError: one of the two has no time zone
        return None
    return max(int(wait.total_seconds() * 1_000), 0)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _error_in(body: object) -> tuple[str, str]:
    """Type or code, and message, of an error body in any provider's shape."""
    value: JsonValue = json.loads(json.dumps(body, default=str))
    if isinstance(value, list) and value:  # the OpenAI form of some servers wraps it in a list
        value = value[0]
    if not isinstance(value, dict):
        return "", value if isinstance(value, str) else ""
    inner = value.get("error")
    if isinstance(inner, str):
        return "", inner
    error = inner if isinstance(inner, dict) else value
    message = error.get("message")
    names = [error.get(key) for key in ("code", "type")]
    known = [name for name in names if isinstance(name, str) and name != "error"]
    kind = next((name for name in known if name in _BY_TYPE or name in _NEVER_HELPS), "")
    return kind or (known[0] if known else ""), message if isinstance(message, str) else ""
