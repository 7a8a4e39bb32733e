"""Moves large content out of a command before it is decided. Pure: the desk stores the blobs."""

from collections.abc import Iterator
from typing import TypeVar, cast

from pydantic import BaseModel

from domain.content import BlobRef
from domain.record import canonical, digest_of

TEXT_BYTES_MAX = 32 * 1024
"""A text above this goes to BLOBS, in bytes."""

COMMAND_BYTES_MAX = 192 * 1024
"""The texts of one command together, in bytes. A call's arguments are written twice, with the reply
and with the call, and an envelope is to stay under 512 KiB: the largest go first until they fit."""

JSON_BYTES_MAX = 6
"""What one character takes in JSON at most, in bytes: `\\u0000`."""

TEXT_FIELDS = ("text", "block", "arguments", "full_output")

CommandT = TypeVar("CommandT", bound=BaseModel)


def offload(command: CommandT) -> tuple[CommandT, dict[str, bytes]]:
    """The command with its large texts by digest, and those texts by digest."""
    texts = list(_texts(command))
    if sum(map(len, texts)) * JSON_BYTES_MAX <= TEXT_BYTES_MAX:
        return command, {}  # the common case, without encoding anything
    sizes = sorted(map(stored_size, texts), reverse=True)
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


def stored_size(text: str) -> int:
    """How many bytes a text takes in an envelope: as JSON, where a control character takes six."""
    return len(canonical(text)) - 2


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if name in TEXT_FIELDS and isinstance(inner, str):
                yield inner
            elif isinstance(inner, (BaseModel, tuple)):
                yield from _texts(cast("object", inner))
    elif isinstance(value, tuple):
        for item in cast("tuple[object, ...]", value):
            yield from _texts(item)


def _moved(value: CommandT, limit: int, blobs: dict[str, bytes]) -> CommandT:
    changed: dict[str, object] = {}
    for name in type(value).model_fields:
        inner = getattr(value, name)
        if name in TEXT_FIELDS and isinstance(inner, str):
            data = inner.encode()
            if stored_size(inner) > limit:
                digest = digest_of(data)
                blobs[digest] = data
                changed[name] = BlobRef(digest=digest, size=len(data))
        elif isinstance(inner, BaseModel):
            changed[name] = _moved(inner, limit, blobs)
        elif isinstance(inner, tuple):
            changed[name] = tuple(
                _moved(item, limit, blobs) if isinstance(item, BaseModel) else item
                for item in cast("tuple[object, ...]", inner)
            )
    return value.model_copy(update=changed) if changed else value
