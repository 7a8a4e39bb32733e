"""Which sampling parameters a choice's model takes. Pure; not how they are spelled."""

import re
from collections.abc import Iterator, Mapping

from domain.limits import ModelChoice, Sampling
from services.loop.models.effort import effort_of
from services.loop.models.providers import route_of

STOPS_MAX = 4
"""Of OpenAI's chat format, by the SDK's own word."""

_CLAUDE = frozenset({"stop"})
"""Version 2026-10-21 of Anthropic's API, which the SDK speaks, has no other: not even the defaults
of `temperature`, `top_p` and `top_k` are accepted, whether the model thinks or not."""

_CHAT = frozenset({"temperature", "top_p", "seed", "stop"})
_TAKES: Mapping[str, frozenset[str]] = {
    "anthropic": _CLAUDE,
    "amazon-bedrock": _CLAUDE,
    "openai": frozenset({"temperature", "top_p"}),
    "openai-chat": _CHAT,
    "azure-openai": frozenset({"temperature", "top_p"}),
    "google-vertex": _CHAT,
    "google": _CHAT - {"seed"},  # its OpenAI-compatible endpoint knows no `seed`
    "ollama": _CHAT,
    "deepseek": _CHAT - {"seed"},
    "fireworks": _CHAT - {"seed"} | {"top_k"},
}
"""What a provider takes, if the model does not forbid it."""

_OPENAI = frozenset({"openai", "openai-chat", "azure-openai"})
_THINKS = re.compile(r"(?:o\d|gpt-[5-9]|codex)")
_THINKS_AT_WILL = ("gpt-5.1", "gpt-5.2")
"""Reasoning models of OpenAI that take the two once reasoning is off."""


def sampling_problems(choice: ModelChoice) -> Iterator[str]:
    """What is asked for and not taken, each as a sentence that says what to change."""
    asked = choice.sampling.model_dump()
    for name, reason in refusals(choice).items():
        if asked[name] in (None, ()) or not reason:
            continue
        others = [one for one, known in _TAKES.items() if name in known and one != choice.provider]
        where = f"; these have it: {', '.join(others)}" if others else ""
        yield f"{name}: {choice.provider} does not take it: {reason}; take it out{where}"
    stops = choice.sampling.stop
    if any(not stop.strip() for stop in stops):
        yield f"stop: {choice.provider} takes no text of white space only; take it out"
    if len(stops) > STOPS_MAX and choice.provider in _OPENAI and not _own_server(choice):
        yield f"stop: {choice.provider} takes at most {STOPS_MAX} texts, not {len(stops)}"


def refusals(choice: ModelChoice) -> Mapping[str, str]:
    """Why a choice's model does not take a parameter, for each of them; '' if it does."""
    known = _known(choice)
    names, why = _forbidden(choice)
    return {
        name: "it has no such thing" if name not in known else why if name in names else ""
        for name in Sampling.model_fields
    }


def _known(choice: ModelChoice) -> frozenset[str]:
    route = route_of(choice)
    wire = route.wire if route else ""
    if choice.provider == "google-vertex" and wire == "anthropic":
        return _CLAUDE
    if choice.provider == "azure-openai" and wire == "openai-chat":
        return _CHAT
    if _own_server(choice):
        return _CHAT | {"top_k"}  # what vLLM, SGLang and llama.cpp take beside OpenAI's own
    return _TAKES.get(choice.provider, frozenset())


def _own_server(choice: ModelChoice) -> bool:
    return choice.provider == "openai-chat" and choice.base_url is not None


def _forbidden(choice: ModelChoice) -> tuple[frozenset[str], str]:
    """What the model itself forbids, by its name, and why."""
    model, both = choice.model, frozenset({"temperature", "top_p"})
    if choice.provider == "deepseek" and "reasoner" in model:
        return both, f"{model} ignores it"
    if choice.provider not in _OPENAI or _own_server(choice):
        return frozenset(), ""
    if _THINKS.match(model) is None or model.endswith("-chat-latest"):
        return frozenset(), ""
    if model.startswith(_THINKS_AT_WILL) and effort_of(choice.reasoning) is None:
        return frozenset(), ""
    refused = both | {"stop"} if model.startswith(("o3", "o4-mini")) else both
    return refused, f"{model} is a reasoning model, which refuses it"
