"""Providers: the models of their tiers, their settings, tools and skills. Not their wire."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Tier = Literal["low", "middle", "high"]


class Tiers(NamedTuple):
    """The models behind `defaultModelTier`."""

    low: str
    middle: str
    high: str

    def of(self, tier: Tier) -> str:
        """The model of a tier."""
        return {"low": self.low, "middle": self.middle, "high": self.high}[tier]


class Provider(NamedTuple):
    """What a definition may say about a provider."""

    tiers: Tiers | None  # None: a model has to be named
    settings: tuple[str, ...]  # keys of `provider.setting`
    plain_http: bool = False  # whether `baseUrl` may be http beyond this machine
    tools: tuple[str, ...] = ()  # what the seed lets `providerTools` name
    address: str = ""  # the variable that stands for a `baseUrl` that is not written


DEFAULT_PROVIDER = "anthropic"
SCRIPTED = "scripted"

_HTTP = ("baseUrl", "headers")
_OPENAI = ("baseUrl", "headers", "organization", "project", "name")
_AZURE = ("resourceName", "apiVersion", "baseUrl", "headers", "useDeploymentBasedUrls")
_VERTEX = ("project", "location", "baseUrl", "headers")

_GEMINI = Tiers("gemini-2.5-flash-lite", "gemini-2.5-flash", "gemini-2.5-pro")
_KIMI = "accounts/fireworks/models/kimi-k2p5"

# Model names are those of the provider SDKs in the lock file (`anthropic.types.Model`,
# `openai.types.ChatModel`) and of the providers' own lists where there is no SDK. A name that is
# stable beats one that is new: a definition pins what it was resolved to.
PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(
        Tiers("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-6"),
        _HTTP,
        tools=("webSearch", "webFetch", "codeExecution"),
        address="ANTHROPIC_BASE_URL",
    ),
    "openai": Provider(
        Tiers("gpt-5-nano", "gpt-5-mini", "gpt-5"),
        _OPENAI,
        tools=("webSearch", "fileSearch", "codeInterpreter", "imageGeneration"),
        address="OPENAI_BASE_URL",
    ),
    "openai-chat": Provider(None, _OPENAI, plain_http=True),
    "google": Provider(
        _GEMINI,
        _HTTP,
        tools=("googleSearch", "codeExecution", "urlContext", "fileSearch", "googleMaps"),
        address="GOOGLE_GENERATIVE_AI_BASE_URL",
    ),
    "deepseek": Provider(Tiers("deepseek-chat", "deepseek-chat", "deepseek-reasoner"), _HTTP),
    "fireworks": Provider(Tiers(_KIMI, _KIMI, _KIMI), _HTTP),
    "ollama": Provider(
        Tiers("gpt-oss:20b", "gpt-oss:20b", "gpt-oss:120b"),
        _HTTP,
        plain_http=True,
        address="OLLAMA_BASE_URL",
    ),
    "azure-openai": Provider(
        None,  # a deployment has the name its owner gave it
        _AZURE,
        tools=("webSearchPreview", "fileSearch", "codeInterpreter", "imageGeneration"),
        address="AZURE_BASE_URL",
    ),
    "amazon-bedrock": Provider(
        Tiers(
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "global.anthropic.claude-opus-4-5-20251101-v1:0",
        ),
        ("region",),
    ),
    "google-vertex": Provider(
        _GEMINI,
        _VERTEX,
        tools=(
            *("codeExecution", "urlContext", "googleSearch"),
            *("enterpriseWebSearch", "googleMaps"),
        ),
        address="GOOGLE_VERTEX_BASE_URL",
    ),
    SCRIPTED: Provider(None, ()),
}
"""Every provider a definition may name."""
