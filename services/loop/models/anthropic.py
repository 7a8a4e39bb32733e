"""Anthropic's Messages API through its SDK. Not a retry policy: one call is one request."""

from collections.abc import Awaitable, Callable

from domain.prompt import ModelRequest
from services.loop.models.anthropic_reply import AnthropicReply
from services.loop.models.anthropic_request import render
from services.loop.models.failures import hide, status_failure
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.streaming import Failures, stream_reply

BASE_URL = "https://api.anthropic.com"


class AnthropicModel:
    """The models of Anthropic, or of another server that speaks its format at `base_url`."""

    def __init__(
        self, *, api_key: str, base_url: str | None = None, timeout_s: float = 300.0
    ) -> None:
        """Import the SDK, which takes a second, and open nothing yet.

        Raises:
            ModelFailure: `missing_key`.
        """
        if not api_key:
            message = "Anthropic needs a key: set ANTHROPIC_API_KEY"
            raise ModelFailure(kind="missing_key", message=message)
        import anthropic  # noqa: PLC0415 - see the docstring

        self._timeout_s = timeout_s
        # The address is always given, so that the environment cannot move a pinned run elsewhere.
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key, base_url=base_url or BASE_URL, timeout=timeout_s, max_retries=0
        )
        self._failures = _failures(api_key, base_url or BASE_URL)

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Make one reply.

        Raises:
            ModelFailure: there is none.
        """
        params = render(request)
        return await stream_reply(
            lambda: self._client.messages.create(**params),
            AnthropicReply(),
            on_delta,
            failures=self._failures,
            timeout_s=self._timeout_s,
        )

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()


def _failures(api_key: str, base_url: str) -> Failures:
    import anthropic  # noqa: PLC0415
    import httpx2  # noqa: PLC0415

    def failure_of(error: Exception) -> ModelFailure:
        match error:
            case anthropic.APIStatusError():
                headers = error.response.headers
                return status_failure("Anthropic", error.status_code, headers, error.body, api_key)
            case anthropic.APITimeoutError() | httpx2.TimeoutException():
                return ModelFailure("timeout", f"{base_url} did not answer in time")
            case anthropic.APIConnectionError() | httpx2.HTTPError():
                why = error.__cause__ or error
                return ModelFailure("network", hide(f"{base_url}: {why!r}", api_key))
            case _:
                return ModelFailure("rejected", hide(str(error), api_key))

    return Failures((anthropic.AnthropicError, httpx2.HTTPError), failure_of)
