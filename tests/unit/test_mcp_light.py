"""What a server may ask us for at all: by its weight, not by what it is."""

from typing import Any

import pytest

from services.tool.mcp.light import QUESTION_CHARS_MAX, QUESTION_VALUES_MAX, is_heavy

LEAF: list[object] = []


@pytest.mark.parametrize(
    "params",
    [
        None,
        {"message": "x" * (QUESTION_CHARS_MAX // 2)},
        {"a": [0] * (QUESTION_VALUES_MAX // 2)},
    ],
)
def test_question_that_people_can_be_asked_is_light(params: dict[str, Any] | None) -> None:
    assert not is_heavy(params)


@pytest.mark.parametrize(
    "params",
    [
        {"message": "x" * (QUESTION_CHARS_MAX + 1)},
        {"x" * (QUESTION_CHARS_MAX + 1): 1},
        {"a": [0] * QUESTION_VALUES_MAX},
        {"a": [[{"b": [LEAF] * 100}]] * (QUESTION_VALUES_MAX // 100)},
    ],
)
def test_question_is_heavy_by_its_values_and_by_its_text(params: dict[str, Any]) -> None:
    assert is_heavy(params)
