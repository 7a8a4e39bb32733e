"""Builds the model of a choice over its SDK's client. Not which choices there are."""

from collections.abc import Mapping

from domain.limits import ModelChoice
from services.loop.models.anthropic import AnthropicModel
from services.loop.models.anthropic_clients import Connection, bedrock, first_party, vertex
from services.loop.models.google_tokens import TOKEN, GoogleTokens
from services.loop.models.openai_chat import OpenAIChatModel
from services.loop.models.openai_client import Key, client_for
from services.loop.models.openai_responses import OpenAIResponsesModel
from services.loop.models.port import Model
from services.loop.models.providers import PROVIDERS, Route, address_of


def model_for(
    choice: ModelChoice, route: Route, keys: Mapping[str, str], timeout_s: float
) -> Model:
    """The model, with nothing opened yet. Imports its SDK, which takes a second.

    Raises:
        ModelFailure: `missing_key`, or `missing_package`.
    """
    base_url = address_of(choice, route)
    if route.wire == "anthropic":
        connection = _anthropic(choice, keys, base_url, timeout_s)
        return AnthropicModel(connection, timeout_s=timeout_s)
    key: Key = keys.get(PROVIDERS[choice.provider].key, "")
    secrets = tuple(keys.values())
    if choice.provider == "google-vertex":
        key = GoogleTokens(keys.get(TOKEN, "")).token
    client = client_for(choice, api_key=key, base_url=base_url, timeout_s=timeout_s)
    kind = OpenAIResponsesModel if route.wire == "openai-responses" else OpenAIChatModel
    return kind(
        client,
        base_url=base_url,
        secrets=secrets,
        timeout_s=timeout_s,
        provider=choice.provider,
    )


def _anthropic(
    choice: ModelChoice, keys: Mapping[str, str], base_url: str, timeout_s: float
) -> Connection:
    match choice.provider:
        case "amazon-bedrock":
            return bedrock(
                keys=keys,
                region=choice.settings["region"],
                base_url=base_url,
                timeout_s=timeout_s,
                headers=choice.headers,
            )
        case "google-vertex":
            return vertex(
                tokens=GoogleTokens(keys.get(TOKEN, "")),
                project=choice.settings["project"],
                location=choice.settings["location"],
                base_url=base_url,
                timeout_s=timeout_s,
                headers=choice.headers,
            )
        case _:
            return first_party(
                api_key=keys.get(PROVIDERS[choice.provider].key, ""),
                base_url=base_url,
                timeout_s=timeout_s,
                headers=choice.headers,
            )
