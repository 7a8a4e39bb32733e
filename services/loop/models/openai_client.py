"""What both OpenAI formats share: the client and what its exceptions mean. Not a format."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from domain.limits import Usage
from services.loop.models.failures import hide, status_failure, stream_failure
from services.loop.models.port import ModelFailure
from services.loop.models.streaming import Failures

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE_URL = "https://api.openai.com/v1"

NO_KEY = "none"
"""Sent to servers of one's own that want no key: the SDK insists on one."""


def open_client(*, api_key: str, base_url: str, timeout_s: float) -> "AsyncOpenAI":
    """A client that makes one request per call. Imports the SDK, which takes a second."""
    import openai  # noqa: PLC0415

    # The address is always given, so that the environment cannot move a pinned run elsewhere.
    return openai.AsyncOpenAI(
        api_key=api_key or NO_KEY, base_url=base_url, timeout=timeout_s, max_retries=0
    )


def failures_of(provider: str, *, api_key: str, base_url: str) -> Failures:
    """What the SDK's exceptions mean, in the words of this provider."""
    import httpx2  # noqa: PLC0415
    import openai  # noqa: PLC0415

    def failure_of(error: Exception) -> ModelFailure:
        match error:
            case openai.APIStatusError():
                headers = error.response.headers
                return status_failure(provider, error.status_code, headers, error.body, api_key)
            case openai.APITimeoutError() | httpx2.TimeoutException():
                return ModelFailure("timeout", f"{base_url} did not answer in time")
            case openai.APIConnectionError() | httpx2.HTTPError():
                why = error.__cause__ or error
                return ModelFailure("network", hide(f"{base_url}: {why!r}", api_key))
            case openai.APIError():  # an error in the stream
                kind = error.code or error.type or ""
                return stream_failure(provider, kind, error.message, api_key)
            case _:
                return ModelFailure("rejected", hide(str(error), api_key))

    return Failures((openai.OpenAIError, httpx2.HTTPError), failure_of)


def usage_of(counts: Mapping[str, object], read: str, made: str) -> Usage:
    """The counts of a usage object, whose fields begin with `read` and `made`.

    Both formats count what was cached or written as part of what was read; a count that a server
    leaves out is zero.
    """
    details_read, details_made = (
        cast("Mapping[str, object]", counts.get(f"{name}_tokens_details") or {})
        for name in (read, made)
    )
    return Usage(
        input=_count(counts, f"{read}_tokens"),
        output=_count(counts, f"{made}_tokens"),
        reasoning=_count(details_made, "reasoning_tokens"),
        cached=_count(details_read, "cached_tokens"),
        cache_written=_count(details_read, "cache_write_tokens"),
    )


def _count(counts: Mapping[str, object], name: str) -> int:
    count = counts.get(name)
    return count if isinstance(count, int) else 0
