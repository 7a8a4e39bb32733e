"""Who may get a block that only its maker can read (C19). Not what is in it."""

import pytest

from domain.content import ThinkingPart
from domain.limits import ModelChoice
from services.loop.models.origin import made_by, origin_of

MADE = ModelChoice(provider="openai", model="gpt-5", settings={"project": "one"})


def part_of(origin: str) -> ThinkingPart:
    return ThinkingPart(provider=origin, block="{}")


@pytest.mark.parametrize(
    "other",
    [
        MADE.model_copy(update={"model": "gpt-5-mini"}),
        MADE.model_copy(update={"provider": "azure-openai"}),
        MADE.model_copy(update={"base_url": "https://elsewhere/v1"}),
        MADE.model_copy(update={"settings": {"project": "two"}}),
    ],
)
def test_block_is_for_its_maker_alone(other: ModelChoice) -> None:
    part = part_of(origin_of("openai-responses", MADE))
    assert made_by(part, origin_of("openai-responses", MADE))
    assert not made_by(part, origin_of("openai-responses", other))
    assert not made_by(part, origin_of("openai-chat", MADE))


def test_parameters_that_change_no_maker_keep_the_blocks() -> None:
    other = MADE.model_copy(update={"reasoning": "high", "headers": {"x": "y"}})
    assert origin_of("openai-responses", other) == origin_of("openai-responses", MADE)


def test_order_of_settings_means_nothing() -> None:
    one = MADE.model_copy(update={"settings": {"a": "1", "b": "2"}})
    other = MADE.model_copy(update={"settings": {"b": "2", "a": "1"}})
    assert origin_of("anthropic", one) == origin_of("anthropic", other)


def test_mark_of_before_is_for_any_model_of_its_format() -> None:
    assert made_by(part_of("openai-responses"), origin_of("openai-responses", MADE))
    assert not made_by(part_of("anthropic"), origin_of("openai-responses", MADE))
    assert not made_by(part_of("scripted"), origin_of("openai-responses", MADE))
