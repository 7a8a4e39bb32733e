"""What both OpenAI formats share: the clients and what their exceptions mean. Not a format."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from domain.limits import ModelChoice, Usage
from services.loop.models.failures import hide, status_failure, stream_failure
from services.loop.models.port import ModelFailure
from services.loop.models.providers import (
    AZURE_DEPLOYMENT_VERSION,
    AZURE_VERSION,
    DEPLOYMENT_URLS,
)
from services.loop.models.streaming import Failures

if TYPE_CHECKING:
    from openai import AsyncOpenAI

BASE_URL = "https://api.openai.com/v1"

NO_KEY = "none"
"""Sent to servers of one's own that want no key: the SDK insists on one."""

Key = str | Callable[[], Awaitable[str]]
"""A key, or what gives one for each request."""


def open_client(
    *,
    api_key: Key,
    base_url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> "AsyncOpenAI":
    """A client that makes one request per call. Imports the SDK, which takes a second."""
    import openai  # noqa: PLC0415

    # The address is always given, so that the environment cannot move a pinned run elsewhere.
    client = openai.AsyncOpenAI(
        api_key=api_key or NO_KEY,
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        default_headers=headers,
    )
    # Not by the constructor: None would be looked for in the environment, and sent to any server.
    client.organization = (settings or {}).get("organization")
    client.project = (settings or {}).get("project")
    return client


def open_azure(
    *,
    api_key: str,
    base_url: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    settings: Mapping[str, str],
) -> "AsyncOpenAI":
    """The same for Azure. With addresses by deployment, the SDK adds that to `base_url`.

    Raises:
        ModelFailure: `missing_key`.
    """
    if not api_key:
        message = "the provider 'azure-openai' needs a key: set AZURE_API_KEY"
        raise ModelFailure(kind="missing_key", message=message)
    import openai  # noqa: PLC0415

    by_deployment = settings.get(DEPLOYMENT_URLS) == "true"
    by_default = AZURE_DEPLOYMENT_VERSION if by_deployment else AZURE_VERSION
    client = openai.AsyncAzureOpenAI(
        api_key=api_key,
        base_url=base_url,
        api_version=settings.get("apiVersion", by_default),
        timeout=timeout_s,
        max_retries=0,
        default_headers=headers,
    )
    client.organization = client.project = None
    return client


def client_for(
    choice: ModelChoice, *, api_key: Key, base_url: str, timeout_s: float
) -> "AsyncOpenAI":
    """The client of a choice's provider."""
    if choice.provider == "azure-openai":
        return open_azure(
            api_key=cast("str", api_key),
            base_url=base_url,
            timeout_s=timeout_s,
            headers=choice.headers,
            settings=choice.settings,
        )
    return open_client(
        api_key=api_key,
        base_url=base_url,
        timeout_s=timeout_s,
        headers=choice.headers,
        # Those of Vertex are part of its address.
        settings=choice.settings if choice.provider in {"openai", "openai-chat"} else None,
    )


def failures_of(provider: str, *, secrets: Sequence[str], base_url: str) -> Failures:
    """What the SDK's exceptions mean, in the words of this provider."""
    import httpx2  # noqa: PLC0415
    import openai  # noqa: PLC0415

    def failure_of(error: Exception) -> ModelFailure:
        match error:
            case openai.APIStatusError():
                headers = error.response.headers
                return status_failure(provider, error.status_code, headers, error.body, secrets)
            case openai.APITimeoutError() | httpx2.TimeoutException():
                return ModelFailure("timeout", f"{base_url} did not answer in time")
            case openai.APIConnectionError() | httpx2.HTTPError():
                why = error.__cause__ or error
                return ModelFailure("network", hide(f"{base_url}: {why!r}", secrets))
            case openai.APIError():  # an error in the stream
                kind = error.code or error.type or ""
                return stream_failure(provider, kind, error.message, secrets)
            case _:
                return ModelFailure("rejected", hide(str(error), secrets))

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
