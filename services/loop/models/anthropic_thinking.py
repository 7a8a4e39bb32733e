"""How much a Claude model is asked to think, and whether it may be asked. Not its thoughts.

Sources: `types/thinking_config_*_param.py` and `output_config_param.py` of the `anthropic` SDK and
the pages they cite.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from domain.limits import ModelChoice
from services.loop.models.anthropic_blocks import THINKING
from services.loop.models.effort import effort_of, thinking_tokens

if TYPE_CHECKING:
    from anthropic.types import ContentBlockParam, MessageParam
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

ADAPTIVE_SINCE = (4, 6)
"""From this version on, models decide themselves how long to think and take an effort; older ones
take a budget of tokens. Newer ones refuse a budget, so the name has to tell."""


def think(params: "MessageCreateParamsStreaming", choice: ModelChoice) -> None:
    """Ask for as much thinking as the choice allows; `none` leaves it to the model's default."""
    effort = effort_of(choice.reasoning)
    budget = thinking_tokens(choice.reasoning)
    if effort is None or budget is None:
        return
    if adaptive(choice.model):
        # `summarized`: some models would otherwise send signed blocks with nothing to read.
        params["thinking"] = {"type": "adaptive", "display": "summarized"}
        params["output_config"] = {"effort": effort}
        return
    params["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if budget >= choice.output_tokens_max:
        # The budget is part of the limit; on top of it, the answer keeps the room it was given.
        params["max_tokens"] = budget + choice.output_tokens_max


def can_think(messages: "Iterable[MessageParam]", choice: ModelChoice) -> bool:
    """Whether thinking may be asked for in the middle of what was said.

    With a budget of tokens, the turn that goes on has to begin with thinking. One that another
    model began has none that could be sent, so this model goes on without until the turn ends.
    """
    if adaptive(choice.model):
        return True
    turn: list[MessageParam] = []  # the replies since a person spoke last
    answering = False  # the API joins messages of people that follow each other
    for message in messages:
        blocks = cast("list[ContentBlockParam]", message["content"])
        if message["role"] == "assistant":
            turn.append(message)
            answering = False
            continue
        answering = answering or any(block["type"] == "tool_result" for block in blocks)
        if not answering:
            turn = []
    if not turn:
        return True
    first = cast("list[ContentBlockParam]", turn[0]["content"])[0]
    return first["type"] in THINKING


def adaptive(model: str) -> bool:
    """Whether a model thinks adaptively, by the version in its name.

    A Claude name without a version is newer than the rule; any other name is somebody else's
    server behind this format, and those know the older form.
    """
    numbers = re.findall(r"(?<!\d)\d{1,2}(?!\d)", model)
    if not numbers:
        return "claude" in model
    version = (int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)
    return version >= ADAPTIVE_SINCE
