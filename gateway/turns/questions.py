"""The words of a question that an expert asks. Not what waits: `projections.waits` has that."""

from collections.abc import Mapping
from typing import Any, cast

import orjson


def question_of(facts: Mapping[str, Any]) -> str:
    """What is asked by a wait of the kind `question`: its `question`, or all of its arguments."""
    asked: object = facts.get("arguments")
    given = cast("dict[str, Any]", asked) if isinstance(asked, dict) else {}
    question = given.get("question")
    if isinstance(question, str):
        return question
    return asked if isinstance(asked, str) else orjson.dumps(asked).decode()
