"""Chat Completions through OpenAI's SDK. Not a retry policy: one call is one request."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from domain.prompt import ModelRequest
from services.loop.models.openai_chat_reply import OpenAIChatReply
from services.loop.models.openai_chat_request import FORMAT, dialect_of, extra_body, render
from services.loop.models.openai_client import failures_of
from services.loop.models.origin import origin_of
from services.loop.models.port import Delta, ModelReply
from services.loop.models.streaming import stream_reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class OpenAIChatModel:
    """The models of a provider with a chat endpoint: OpenAI, Gemini, DeepSeek, Ollama, vLLM."""

    def __init__(
        self,
        client: "AsyncOpenAI",
        *,
        base_url: str,
        secrets: Sequence[str] = (),
        timeout_s: float = 300.0,
        provider: str = "openai-chat",
    ) -> None:
        """`provider` is a name of the table of providers: it chooses the dialect."""
        self._timeout_s = timeout_s
        self._dialect = dialect_of(provider, base_url)
        self._client = client
        self._failures = failures_of(provider, secrets=secrets, base_url=base_url)

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Make one reply.

        Raises:
            ModelFailure: there is none.
        """
        choice = request.context.model
        params = render(request, self._dialect)
        return await stream_reply(
            lambda: self._client.chat.completions.create(**params, extra_body=extra_body(choice)),
            OpenAIChatReply(origin_of(FORMAT, choice)),
            on_delta,
            failures=self._failures,
            timeout_s=self._timeout_s,
        )

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()
