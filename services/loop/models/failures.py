"""What an HTTP answer or a broken stream means for a generation. Not the decision to try again."""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from services.loop.models.port import FailureKind, ModelFailure
from services.loop.models.rates import rate_signs, retry_after_ms

TEXT_CHARS_MAX = 2_000

_BY_STATUS: Mapping[int, FailureKind] = {
    401: "auth",
    403: "auth",
    404: "not_found",
    408: "timeout",
    409: "server",  # a conflict on the provider's side, over when asked again
    424: "server",  # Bedrock: the model broke while it worked on the request
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}

_BY_TYPE: Mapping[str, FailureKind] = {
    "accessdeniedexception": "auth",
    "authentication_error": "auth",
    "billing_error": "rejected",
    "content_policy_violation": "rejected",
    "context_length_exceeded": "rejected",
    "invalid_prompt": "rejected",
    "invalid_request_error": "rejected",
    "modeltimeoutexception": "timeout",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_error": "auth",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "request_too_large": "rejected",
    "serviceunavailableexception": "overloaded",
    "throttlingexception": "rate_limited",
    "timeout_error": "timeout",
    "validationexception": "rejected",
}
"""Error types and codes that come inside a stream, after a status of 200; in lower case."""

_NEVER_HELPS = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that no waiting cures."""


def status_failure(
    provider: str, status: int, headers: Mapping[str, str], body: object, secrets: Sequence[str]
) -> ModelFailure:
    """The failure of an error answer, or of an error event in a stream that began with a 200."""
    kind, text = _error_in(body)
    if status < 400:  # noqa: PLR2004 - not an error status: the error came inside the stream
        return stream_failure(provider, kind, text, secrets)
    message = hide(f"{provider} answered {status}: {text or 'no reason given'}", secrets)
    if kind in _NEVER_HELPS:
        return ModelFailure("rejected", message, status)
    by_default: FailureKind = "server" if status >= 500 else "rejected"  # noqa: PLR2004
    return ModelFailure(
        _BY_STATUS.get(status, by_default),
        message,
        status,
        retry_after_ms(headers),
        limits=rate_signs(headers),
    )


def stream_failure(provider: str, kind: str, text: str, secrets: Sequence[str]) -> ModelFailure:
    """The failure an error event names; what it does not name clearly is the provider's trouble."""
    message = f"{provider} broke off with {kind or 'an error'}: {text or 'no reason given'}"
    return ModelFailure(_BY_TYPE.get(kind.lower(), "server"), hide(message, secrets))


def hide(text: str, secrets: Sequence[str]) -> str:
    """The text, not too long and without the keys in it."""
    for secret in secrets:
        text = text.replace(secret, "[key]") if secret else text
    return text[:TEXT_CHARS_MAX]


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
    kind = next((name for name in known if name.lower() in _BY_TYPE or name in _NEVER_HELPS), "")
    return kind or (known[0] if known else ""), message if isinstance(message, str) else ""
