"""What an answer's headers say of rate limits and waits. Not a limiter, nor the decision to wait.

Sources: platform.claude.com/docs `api/rate-limits` (`anthropic-ratelimit-*`, moments as RFC 3339),
developers.openai.com/api/docs `guides/rate-limits` (`x-ratelimit-*`, spans such as `6m0s`), which
Azure and many servers behind that format follow, and docs.fireworks.ai `guides/quotas` (prompt and
generated tokens apart). No clock of ours takes part: moments are measured against the answer's own
`Date`.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from services.loop.models.port import RateSign, RateSigns

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_UNITS_MS: Mapping[str, int] = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_ANTHROPIC = "anthropic-ratelimit-{}-{}"
_OPENAI = "x-ratelimit-{1}-{0}"


def rate_signs(headers: Mapping[str, str]) -> RateSigns | None:
    """What the headers say of limits; None when they say nothing that can be read."""
    signs = RateSigns(
        requests=_sign(headers, "requests"),
        tokens=_sign(headers, "tokens"),
        input_tokens=_sign(headers, "input-tokens", "tokens-prompt"),
        output_tokens=_sign(headers, "output-tokens", "tokens-generated"),
    )
    return None if signs == RateSigns() else signs


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long the provider asks to wait; None when it does not say, or says nothing sensible."""
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return int(exact)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return int(seconds * 1_000)
    try:
        return _until(parsedate_to_datetime(value or ""), headers)
    except ValueError:
        return None


def _sign(headers: Mapping[str, str], anthropic: str, openai: str = "") -> RateSign | None:
    for form, name in ((_ANTHROPIC, anthropic), (_OPENAI, openai or anthropic)):
        remaining = _number(headers.get(form.format(name, "remaining")))
        if remaining is not None:
            limit = _number(headers.get(form.format(name, "limit")))
            reset = headers.get(form.format(name, "reset"))
            return RateSign(
                remaining=int(remaining),
                limit=None if limit is None else int(limit),
                reset_ms=None if reset is None else _reset_ms(reset.strip(), headers),
            )
    return None


def _reset_ms(text: str, headers: Mapping[str, str]) -> int | None:
    """A span (`1s`, `6m0s`, `20ms`), a number of seconds, or a moment (RFC 3339)."""
    seconds = _number(text)
    if seconds is not None:
        return int(seconds * 1_000)
    parts = _SPAN.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return int(sum(float(number) * _UNITS_MS[unit] for number, unit in parts))
    try:
        return _until(datetime.fromisoformat(text), headers)
    except ValueError:
        return None


def _until(moment: datetime, headers: Mapping[str, str]) -> int | None:
    """How far a moment is from the answer's own `Date`; None without that."""
    try:
        wait = moment - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):  # TypeError: one of the two has no time zone
        return None
    return max(int(wait.total_seconds() * 1_000), 0)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
