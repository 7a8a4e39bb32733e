"""Values as TOML has them, on one line each. Not a whole document."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def key_text(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if _BARE.fullmatch(key) else _string(key)


def toml_value(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A JSON value in TOML; keys keep their order.

    Raises:
        ValueError: TOML does not have it: a null, or a number that is none.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        pairs = ", ".join(f"{key_text(key)} = {toml_value(table[key])}" for key in table)
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return f"[{', '.join(toml_value(item) for item in items)}]"
    msg = f"TOML has no {type(value).__name__}"
    raise ValueError(msg)


def _string(text: str) -> str:
    """A string on one line: what JSON escapes TOML does, too, and the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
