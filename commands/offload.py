"""Moves large content out of a command before it is decided. Pure: the desk stores the blobs."""

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel

from domain.content import BlobRef
from domain.record import digest_of

TEXT_BYTES_MAX = 32 * 1024
"""A text above this goes to BLOBS, in bytes."""

COMMAND_BYTES_MAX = 384 * 1024
"""The texts of one command together; the largest go first until they fit, in bytes."""

TEXT_FIELDS = ("text", "block", "arguments", "full_output")

CommandT = TypeVar("CommandT", bound=BaseModel)


def offload(command: CommandT) -> tuple[CommandT, dict[str, bytes]]:
    """The command with its large texts by digest, and those texts by digest."""
    sizes = sorted((len(text.encode()) for text in _texts(command)), reverse=True)
    total = sum(sizes)
    limit = TEXT_BYTES_MAX
    for size in sizes:
        if total <= COMMAND_BYTES_MAX:
            break
        limit = min(limit, size - 1)
        total -= size
    if not sizes or sizes[0] <= limit:
        return command, {}
    blobs: dict[str, bytes] = {}
    return _moved(command, limit, blobs), blobs


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if name in TEXT_FIELDS and isinstance(inner, str):
                yield inner
            elif isinstance(inner, (BaseModel, tuple)):
                yield from _texts(inner)
    elif isinstance(value, tuple):
        for item in value:
            yield from _texts(item)


def _moved(value: CommandT, limit: int, blobs: dict[str, bytes]) -> CommandT:
    changed: dict[str, object] = {}
    for name in type(value).model_fields:
        inner = getattr(value, name)
        if name in TEXT_FIELDS and isinstance(inner, str):
            data = inner.encode()
            if len(data) > limit:
                digest = digest_of(data)
                blobs[digest] = data
                changed[name] = BlobRef(digest=digest, size=len(data))
        elif isinstance(inner, BaseModel):
            changed[name] = _moved(inner, limit, blobs)
        elif isinstance(inner, tuple):
            changed[name] = tuple(
                _moved(item, limit, blobs) if isinstance(item, BaseModel) else item
                for item in inner
            )
    return value.model_copy(update=changed) if changed else value
