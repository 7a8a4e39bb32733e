"""Every provider in one table: client, address, keys, settings, wire format. Not how one answers.

`docs/providers.md` shows the same table, and a test compares the two.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from domain.limits import ModelChoice

Wire = Literal["anthropic", "openai-responses", "openai-chat"]

DEPLOYMENT_URLS = "useDeploymentBasedUrls"
AZURE_VERSION = "v1"
AZURE_DEPLOYMENT_VERSION = "2024-10-21"
"""The API version of each of Azure's two forms of address, unless a definition names another."""

SETTING_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
"""What may become part of an address."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of `provider.setting` beside `baseUrl` and `headers`."""

    name: str
    variable: str = ""  # the variable that says the same where definitions are read
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a provider. `base_url` may be replaced by a choice's own; `path` is added."""

    wire: Wire
    client: str  # the class of the SDK
    base_url: str
    path: str = ""
    when: str = ""  # which choices go this way, in words


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider we can reach, and what that takes."""

    routes: tuple[Route, ...]
    auth: str  # what of a request proves who asks
    key: str  # name of the secret that holds the key
    key_needed: bool = True
    more_keys: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    extra: str = ""  # the extra of this package that installs what the SDK needs for it

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all secrets it may be asked with."""
        return (self.key, *self.more_keys)


_BEARER = "Authorization: Bearer"
_OPENAI_SETTINGS = (
    Setting("organization", "OPENAI_ORGANIZATION"),
    Setting("project", "OPENAI_PROJECT"),
    Setting("name"),
)


def _chat(base_url: str) -> tuple[Route, ...]:
    return (Route("openai-chat", "openai.AsyncOpenAI", base_url),)


PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(
        (Route("anthropic", "anthropic.AsyncAnthropic", "https://api.anthropic.com"),),
        _BEARER,
        "ANTHROPIC_API_KEY",
    ),
    "openai": Provider(
        (Route("openai-responses", "openai.AsyncOpenAI", "https://api.openai.com/v1"),),
        _BEARER,
        "OPENAI_API_KEY",
        settings=_OPENAI_SETTINGS,
    ),
    "openai-chat": Provider(
        _chat("https://api.openai.com/v1"), _BEARER, "OPENAI_API_KEY", settings=_OPENAI_SETTINGS
    ),
    "azure-openai": Provider(
        (
            Route(
                "openai-responses",
                "openai.AsyncAzureOpenAI",
                "https://{resourceName}.openai.azure.com/openai",
                "/v1",
            ),
            Route(
                "openai-chat",
                "openai.AsyncAzureOpenAI",
                "https://{resourceName}.openai.azure.com/openai",
                when="with `useDeploymentBasedUrls`",
            ),
        ),
        "api-key",
        "AZURE_API_KEY",
        settings=(
            Setting("resourceName", "AZURE_RESOURCE_NAME", needed=True),
            Setting("apiVersion", "AZURE_API_VERSION"),
            Setting(DEPLOYMENT_URLS),
        ),
    ),
    "amazon-bedrock": Provider(
        (
            Route(
                "anthropic",
                "anthropic.AsyncAnthropicBedrock",
                "https://bedrock-runtime.{region}.amazonaws.com",
            ),
        ),
        "AWS signature, version 4; or Authorization: Bearer",
        "AWS_ACCESS_KEY_ID",
        key_needed=False,
        more_keys=("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"),
        settings=(Setting("region", "AWS_REGION", needed=True),),
        extra="bedrock",
    ),
    "google-vertex": Provider(
        (
            Route(
                "anthropic",
                "anthropic.AsyncAnthropicVertex",
                "https://{location}-aiplatform.googleapis.com/v1",
                when="for models named `claude…`",
            ),
            Route(
                "openai-chat",
                "openai.AsyncOpenAI",
                "https://{location}-aiplatform.googleapis.com/v1",
                "/projects/{project}/locations/{location}/endpoints/openapi",
                when="for all other models",
            ),
        ),
        _BEARER,
        "GOOGLE_VERTEX_ACCESS_TOKEN",
        key_needed=False,
        settings=(
            Setting("project", "GOOGLE_VERTEX_PROJECT", needed=True),
            Setting("location", "GOOGLE_VERTEX_LOCATION", needed=True),
        ),
        extra="vertex",
    ),
    "google": Provider(
        _chat("https://generativelanguage.googleapis.com/v1beta/openai"),
        _BEARER,
        "GOOGLE_GENERATIVE_AI_API_KEY",
    ),
    "ollama": Provider(
        _chat("http://localhost:11434/v1"), _BEARER, "OLLAMA_API_KEY", key_needed=False
    ),
    "deepseek": Provider(_chat("https://api.deepseek.com/v1"), _BEARER, "DEEPSEEK_API_KEY"),
    "fireworks": Provider(
        _chat("https://api.fireworks.ai/inference/v1"), _BEARER, "FIREWORKS_API_KEY"
    ),
}
"""All providers but `scripted`, which has no wire."""

_VERTEX_HOSTS: Mapping[str, str] = {
    "global": "aiplatform.googleapis.com",
    "us": "aiplatform.us.rep.googleapis.com",
    "eu": "aiplatform.eu.rep.googleapis.com",
}
"""Locations of Vertex that are no region have hosts of their own."""


def route_of(choice: ModelChoice) -> Route | None:
    """The way a choice goes; None when there is no such provider."""
    provider = PROVIDERS.get(choice.provider)
    if provider is None:
        return None
    match choice.provider:
        case "azure-openai":
            return provider.routes[choice.settings.get(DEPLOYMENT_URLS) == "true"]
        case "google-vertex":
            return provider.routes[not choice.model.startswith("claude")]
        case _:
            return provider.routes[0]


def address_of(choice: ModelChoice, route: Route) -> str:
    """Where requests of a choice go: always told to the SDK, so that no environment moves a run."""
    filled = _Filled(choice.settings)
    base_url = choice.base_url
    if base_url is None:
        host = _VERTEX_HOSTS.get(choice.settings.get("location", ""))
        form = route.base_url
        if host is not None:
            form = form.replace("{location}-aiplatform.googleapis.com", host)
        base_url = form.format_map(filled)
    return base_url.rstrip("/") + route.path.format_map(filled)


class _Filled(dict[str, str]):
    """Settings for the gaps of an address; what is missing was reported before, and stays a gap."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"
