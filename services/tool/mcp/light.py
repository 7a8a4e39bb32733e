"""What a server asks us for is light: a question that is not is passed on without what it holds.

A question is kept as long as nobody has answered it, and a server may ask many. So each is bounded,
beside the bounds on how much is read at once.
"""

from collections.abc import Mapping
from typing import Any, Self, cast

from mcp_types import JSONRPCRequest

QUESTION_VALUES_MAX = 10_000
QUESTION_CHARS_MAX = 1_000_000


class Light:
    """The stream a session reads, as the transport has it but for heavy questions."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - each transport has its own kind
        self._inner = inner

    @property
    def last_context(self) -> Any:  # noqa: ANN401
        """What the transport says of the latest message, if it does."""
        return getattr(self._inner, "last_context", None)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._inner.__aexit__(*raised)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        item = await anext(self._inner)
        message = getattr(item, "message", None)
        if isinstance(message, JSONRPCRequest) and is_heavy(message.params):
            message.params = None  # the session answers that something is missing
        return item


def is_heavy(params: Mapping[str, Any] | None) -> bool:
    """Whether a question has more values or text than any that could be put to somebody."""
    values, chars, todo = 0, 0, list[object]([params])
    while todo:
        value = todo.pop()
        values += 1
        if isinstance(value, str):
            chars += len(value)
        elif isinstance(value, dict):
            table = cast("dict[str, object]", value)
            chars += sum(map(len, table))
            todo.extend(table.values())
        elif isinstance(value, list):
            todo.extend(cast("list[object]", value))
        if values + len(todo) > QUESTION_VALUES_MAX or chars > QUESTION_CHARS_MAX:
            return True
    return False
