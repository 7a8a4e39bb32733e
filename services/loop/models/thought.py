"""The readable text of a provider's own thinking block. Not a change to it: it stays byte-exact."""

import json

from pydantic import JsonValue


def thought_of(block: str) -> str:
    """What a thinking block says; empty for a redacted or encrypted one.

    Knows the Anthropic form (`thinking`), the Responses form (lists of texts in
    `summary` and `content`) and the chat form (`reasoning_content` or `reasoning`).
    """
    try:
        value: JsonValue = json.loads(block)
    except ValueError:
        return ""
    if not isinstance(value, dict):
        return ""
    for key in ("thinking", "reasoning_content", "reasoning"):
        text = value.get(key)
        if isinstance(text, str):
            return text
    return "\n\n".join(_texts(value.get("summary"))) or "".join(_texts(value.get("content")))


def _texts(items: JsonValue) -> list[str]:
    if not isinstance(items, list):
        return []
    found = [item.get("text") for item in items if isinstance(item, dict)]
    return [text for text in found if isinstance(text, str)]
