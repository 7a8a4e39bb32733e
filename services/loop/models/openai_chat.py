"""Chat Completions through OpenAI's SDK. Not a retry policy: one call is one request."""

from collections.abc import Awaitable, Callable

from domain.prompt import ModelRequest
from services.loop.models.openai_chat_reply import OpenAIChatReply
from services.loop.models.openai_chat_request import dialect_of, render
from services.loop.models.openai_client import BASE_URL, failures_of, open_client
from services.loop.models.port import Delta, ModelReply
from services.loop.models.streaming import stream_reply


class OpenAIChatModel:
    """The models of a provider with a chat endpoint: OpenAI, DeepSeek, Ollama, vLLM."""

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str | None = None,
        timeout_s: float = 300.0,
        provider: str = "openai-chat",
    ) -> None:
        """Import the SDK, which takes a second, and open nothing yet.

        An empty `api_key` is for servers that want none. `provider` is a name of the registry: it
        chooses the dialect.
        """
        url = base_url or BASE_URL
        self._timeout_s = timeout_s
        self._dialect = dialect_of(provider, url)
        self._client = open_client(api_key=api_key, base_url=url, timeout_s=timeout_s)
        self._failures = failures_of(provider, api_key=api_key, base_url=url)

    async def generate(
        self, request: ModelRequest, on_delta: Callable[[Delta], Awaitable[None]]
    ) -> ModelReply:
        """Make one reply.

        Raises:
            ModelFailure: there is none.
        """
        params = render(request, self._dialect)
        return await stream_reply(
            lambda: self._client.chat.completions.create(**params),
            OpenAIChatReply(),
            on_delta,
            failures=self._failures,
            timeout_s=self._timeout_s,
        )

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        await self._client.close()
