"""OpenAI's Responses API through its SDK. Not a retry policy: one call is one request."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from domain.prompt import ModelRequest
from services.loop.models.openai_client import failures_of
from services.loop.models.openai_responses_reply import OpenAIResponsesReply
from services.loop.models.openai_responses_request import FORMAT, render
from services.loop.models.origin import origin_of
from services.loop.models.port import Delta, ModelReply
from services.loop.models.streaming import stream_reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class OpenAIResponsesModel:
    """The models of OpenAI or Azure, or of another server that speaks this format."""

    def __init__(
        self,
        client: "AsyncOpenAI",
        *,
        base_url: str,
        secrets: Sequence[str] = (),
        timeout_s: float = 300.0,
        provider: str = "openai",
    ) -> None:
        """`provider` is what messages of failures call it."""
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._client = client
        self._failures = failures_of(provider, secrets=secrets, base_url=base_url)

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
            OpenAIResponsesReply(origin_of(FORMAT, request.context.model), self._secrets),
            on_delta,
            failures=self._failures,
            timeout_s=self._timeout_s,
        )

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()
