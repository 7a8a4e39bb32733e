"""Providers, and the model each of their tiers stands for. Not how a provider is spoken to."""

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


DEFAULT_PROVIDER = "anthropic"
SCRIPTED = "scripted"

_HTTP = ("baseUrl", "headers")
_OPENAI = ("baseUrl", "headers", "organization", "project", "name")

# Model names are those of the provider SDKs in the lock file (`anthropic.types.Model`,
# `openai.types.ChatModel`) and of the providers' own lists where there is no SDK. A name that is
# stable beats one that is new: a definition pins what it was resolved to.
PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(Tiers("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-4-6"), _HTTP),
    "openai": Provider(Tiers("gpt-5-nano", "gpt-5-mini", "gpt-5"), _OPENAI),
    "openai-chat": Provider(None, _OPENAI, plain_http=True),
    "google": Provider(Tiers("gemini-2.5-flash-lite", "gemini-2.5-flash", "gemini-2.5-pro"), _HTTP),
    "deepseek": Provider(Tiers("deepseek-chat", "deepseek-chat", "deepseek-reasoner"), _HTTP),
    "fireworks": Provider(
        Tiers(
            "accounts/fireworks/models/kimi-k2p5",
            "accounts/fireworks/models/kimi-k2p5",
            "accounts/fireworks/models/kimi-k2p5",
        ),
        _HTTP,
    ),
    "ollama": Provider(Tiers("gpt-oss:20b", "gpt-oss:20b", "gpt-oss:120b"), _HTTP, plain_http=True),
    SCRIPTED: Provider(None, ()),
}
"""Every provider this release speaks to."""

FOREIGN = frozenset({"azure-openai", "amazon-bedrock", "google-vertex"})
"""Providers a definition may name, and this release does not speak to."""
