"""How much thinking a `reasoning` setting asks for. Not which models can think."""

from collections.abc import Mapping
from typing import Literal

from domain.limits import Reasoning

Effort = Literal["low", "medium", "high"]

TOKENS_MIN = 1_024

_TOKENS: Mapping[str, int] = {
    "none": 0,
    "minimal": 1_024,
    "low": 2_048,
    "medium": 5_000,
    "high": 10_000,
}


def thinking_tokens(reasoning: Reasoning) -> int | None:
    """The token budget for thinking, at least what providers accept; None when it is off."""
    tokens = reasoning if isinstance(reasoning, int) else _TOKENS[reasoning]
    return max(tokens, TOKENS_MIN) if tokens > 0 else None


def effort_of(reasoning: Reasoning) -> Effort | None:
    """The effort level that every reasoning model knows; None when thinking is off.

    `minimal` is `low`: newer models no longer accept `minimal`, all accept `low`.
    """
    tokens = thinking_tokens(reasoning)
    if tokens is None:
        return None
    if tokens <= _TOKENS["low"]:
        return "low"
    return "medium" if tokens <= _TOKENS["medium"] else "high"
