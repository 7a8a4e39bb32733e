"""Every way to every provider, as the tests of all of them need it. Not tests."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from domain.limits import ModelChoice
from domain.prompt import ModelRequest
from services.loop.models.providers import route_of
from services.loop.models.registry import ModelRegistry
from tests.integration.wire_conversations import request_of, told
from tests.wire import azure, bedrock, google
from tests.wire.anthropic import AnthropicFormat
from tests.wire.chat import ChatFormat
from tests.wire.http import KEY, Format, WireServer, serving
from tests.wire.responses import ResponsesFormat

BEARER = ("authorization", f"Bearer {KEY}")


@dataclass(frozen=True)
class Way:
    """A provider, a server that speaks as it does, and what a request has to look like there."""

    provider: str
    format: Callable[[], Format]
    model: str
    path: str
    auth: tuple[str, str]  # a header, and how it begins
    base: str = ""  # what follows the server's address in `baseUrl`
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: dict[str, str] = field(default_factory=dict[str, str])
    spoken: str = ""  # the model as the server hears of it
    in_body: bool = True  # whether the body names the model

    def __str__(self) -> str:
        return f"{self.provider}-{self.model}"

    @property
    def wire(self) -> str:
        route = route_of(self.choice(""))
        assert route is not None
        return route.wire

    def choice(self, url: str, **fields: Any) -> ModelChoice:
        made: dict[str, Any] = {
            "provider": self.provider,
            "model": self.model,
            "base_url": f"{url}{self.base}",
            "settings": self.settings,
            "reasoning": "none",
        }
        return ModelChoice.model_validate({**made, **fields})

    def request(self, url: str, **fields: Any) -> ModelRequest:
        asked = request_of(told("go"), model=self.model)
        context = asked.context.model_copy(update={"model": self.choice(url, **fields)})
        return ModelRequest(context, asked.messages, asked.digest, asked.blobs)


AWS_KEYS = {
    "AWS_ACCESS_KEY_ID": bedrock.ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": bedrock.SECRET_KEY,
    "AWS_SESSION_TOKEN": bedrock.SESSION,
}
ON_BEDROCK = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"
VERTEX = {"project": google.PROJECT, "location": google.LOCATION}
VERTEX_KEYS = {"GOOGLE_VERTEX_ACCESS_TOKEN": google.TOKEN}
VERTEX_AUTH = ("authorization", f"Bearer {google.TOKEN}")


def _chat(
    provider: str, model: str, base: str, key: str, *, also: str = "", unknown: str = ""
) -> Way:
    path = f"{base}/chat/completions"
    rules = partial(ChatFormat, also=also, unknown=unknown)
    return Way(provider, rules, model, path, BEARER, base, {key: KEY})


WAYS = [
    Way(
        "anthropic",
        AnthropicFormat,
        "claude-haiku-4-5",
        "/v1/messages",
        BEARER,
        keys={"ANTHROPIC_API_KEY": KEY},
    ),
    Way(
        "openai",
        ResponsesFormat,
        "gpt-5-mini",
        "/v1/responses",
        BEARER,
        "/v1",
        {"OPENAI_API_KEY": KEY},
    ),
    _chat("openai-chat", "qwen3", "/v1", "OPENAI_API_KEY", also="top_k"),
    Way(
        "azure-openai",
        lambda: azure.AzureResponses(version="v1"),
        "our-mini",
        "/openai/v1/responses",
        ("api-key", azure.KEY),
        "/openai",
        {"AZURE_API_KEY": azure.KEY},
    ),
    Way(
        "azure-openai",
        lambda: azure.AzureDeployment(version="2025-01-01-preview"),
        "our-4o",
        "/openai/deployments/our-4o/chat/completions",
        ("api-key", azure.KEY),
        "/openai",
        {"AZURE_API_KEY": azure.KEY},
        {"useDeploymentBasedUrls": "true", "apiVersion": "2025-01-01-preview"},
    ),
    Way(
        "amazon-bedrock",
        lambda: bedrock.BedrockFormat(session=bedrock.SESSION),
        ON_BEDROCK,
        f"/model/{ON_BEDROCK}/invoke-with-response-stream",
        ("authorization", f"AWS4-HMAC-SHA256 Credential={bedrock.ACCESS_KEY}/"),
        keys=AWS_KEYS,
        settings={"region": bedrock.REGION},
        in_body=False,
    ),
    Way(
        "google-vertex",
        google.ClaudeOnVertex,
        "claude-haiku-4-5@20251001",
        f"/v1/projects/{google.PROJECT}/locations/{google.LOCATION}/publishers/anthropic/models/"
        "claude-haiku-4-5@20251001:streamRawPredict",
        VERTEX_AUTH,
        "/v1",
        VERTEX_KEYS,
        VERTEX,
        in_body=False,
    ),
    Way(
        "google-vertex",
        google.GeminiOnVertex,
        "gemini-3-flash",
        google.GEMINI,
        VERTEX_AUTH,
        "/v1",
        VERTEX_KEYS,
        VERTEX,
        spoken="google/gemini-3-flash",
    ),
    _chat(
        "google",
        "gemini-3-flash",
        "/v1beta/openai",
        "GOOGLE_GENERATIVE_AI_API_KEY",
        unknown="seed top_k",
    ),
    _chat("ollama", "gpt-oss:20b", "/v1", "OLLAMA_API_KEY"),
    _chat("deepseek", "deepseek-chat", "/v1", "DEEPSEEK_API_KEY", unknown="seed"),
    _chat(
        "fireworks",
        "accounts/fireworks/models/kimi-k2p5",
        "/inference/v1",
        "FIREWORKS_API_KEY",
        also="top_k",
        unknown="seed",
    ),
]


@asynccontextmanager
async def asking(
    way: Way, keys: Mapping[str, str] | None = None
) -> AsyncGenerator[tuple[ModelRegistry, WireServer]]:
    """A registry that has the keys of that way, and the server."""
    given = way.keys if keys is None else keys
    async with serving(way.format()) as wire:
        registry = ModelRegistry(given.get, timeout_s=10)
        try:
            yield registry, wire
        finally:
            await registry.aclose()
