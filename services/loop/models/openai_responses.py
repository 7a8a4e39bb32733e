"""OpenAI's Responses API through its SDK. Not a retry policy: one call is one request."""

from collections.abc import Awaitable, Callable

from domain.prompt import ModelRequest
from services.loop.models.openai_client import BASE_URL, failures_of, open_client
from services.loop.models.openai_responses_reply import OpenAIResponsesReply
from services.loop.models.openai_responses_request import render
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.streaming import stream_reply


class OpenAIResponsesModel:
    """The models of OpenAI, or of another server that speaks this format at `base_url`."""

    def __init__(
        self, *, api_key: str, base_url: str | None = None, timeout_s: float = 300.0
    ) -> None:
        """Import the SDK, which takes a second, and open nothing yet.

        Raises:
            ModelFailure: `missing_key`.
        """
        if not api_key:
            message = "OpenAI needs a key: set OPENAI_API_KEY"
            raise ModelFailure(kind="missing_key", message=message)
        url = base_url or BASE_URL
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._client = open_client(api_key=api_key, base_url=url, timeout_s=timeout_s)
        self._failures = failures_of("OpenAI", api_key=api_key, base_url=url)

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Make one reply.

        Raises:
            ModelFailure: there is none.
        """
        params = render(request)
        return await stream_reply(
            lambda: self._client.responses.create(**params),
            OpenAIResponsesReply(self._api_key),
            on_delta,
            failures=self._failures,
            timeout_s=self._timeout_s,
        )

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()
