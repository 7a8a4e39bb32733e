"""The readable text of a provider's own block. Not a change to the block: it stays byte-exact."""

import json

from pydantic import JsonValue

THOUGHTS = frozenset({None, "thinking", "reasoning"})
"""The types of blocks that hold thoughts; chat formats give theirs no type."""


def thought_of(block: str) -> str:
    """What a thinking block says; empty for a redacted or encrypted one, and for no thought.

    Blocks of tools at the provider, of containers and of texts with citations are kept in the same
    way, and hold no thought.

    Knows the Anthropic form (`thinking`), the Responses form (lists of texts in
    `summary` and `content`) and the chat form (`reasoning_content` or `reasoning`).
    """
    try:
        value: JsonValue = json.loads(block)
    except ValueError:
        return ""
    if not isinstance(value, dict) or value.get("type") not in THOUGHTS:
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
