"""What a server answered, as the result of a call: bounded, whatever it was. Not its pieces."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, cast

from mcp_types import CallToolResult, ContentBlock

from domain.content import TextPart
from domain.record import clean
from domain.schemas import schema_fault, schema_problem
from services.tool.mcp.contents import Pieces, of_blocks
from services.worker.toolbox import ToolResult

INLINE_BYTES_MAX = 30_000
"""What a model is shown of a result: as much as of the output of a command."""

COMPARED_TEXTS = 10
COMPARED_BLOCKS = 20
COMPARED_CHARS_MAX = 1024 * 1024
"""Which texts are compared with the data of a result, so that it is shown once."""

CHECKED_BYTES_MAX = 64 * 1024
CHECK_S = 2.0
"""How much data is compared with a schema, and for how long: a server may have made both slow."""


async def of_call(
    result: CallToolResult, output_schema: dict[str, Any] | None, call: str
) -> ToolResult:
    """The result of a tool's call; `output_schema` is what the run is pinned to."""
    pieces = of_blocks(result.content)
    structured = result.structured_content
    if structured is not None:
        text = _json(structured)
        if not (_is_said(pieces.texts, structured) or _is_content(result.content, structured)):
            pieces.texts.append(text)
        if output_schema is not None and not result.is_error:
            problem = await _mismatch(output_schema, structured, text)
            if problem is not None:
                pieces.texts.append(f"[the data is not what the tool promises: {problem}]")
    elif output_schema is not None and not result.is_error:
        pieces.texts.append("[the tool promises data, but gave none]")
    if not pieces.texts:
        pieces.texts.append("[the tool gave no output]")
    return of_pieces(pieces, call, is_error=result.is_error)


def of_pieces(pieces: Pieces, call: str, *, is_error: bool = False) -> ToolResult:
    """A result of some pieces: what is too long is cut in its middle, and kept in full."""
    whole = "\n".join(pieces.texts)
    data = whole.encode()
    shown, full, media_type = whole, None, "text/plain"
    if len(data) > INLINE_BYTES_MAX:
        shown = f"{preview(data)}\n[cut: readResult with call {call!r} reads the rest]"
        full = data
    elif len(pieces.kept) == 1:
        media_type, full = pieces.kept[0]
        shown = f"{whole}\n[its {len(full)} bytes are kept as the full output of call {call!r}]"
    return ToolResult(
        content=(TextPart(text=shown),),
        is_error=is_error,
        full_output=full,
        full_output_media_type=media_type,
        files=tuple(pieces.files),
    )


def preview(data: bytes, bytes_max: int = INLINE_BYTES_MAX) -> str:
    """The beginning and the end of a text: what is cut is its middle."""
    half = bytes_max // 2
    cut = len(data) - 2 * half
    head = data[:half].decode("utf-8", "ignore")
    tail = data[-half:].decode("utf-8", "ignore")
    return f"{head}\n[... {cut} bytes left out ...]\n{tail}"


def _json(value: object) -> str:
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError):
        return "[data that is nested too deep to be shown]"


def _is_said(texts: list[str], value: object) -> bool:
    """Whether the texts of a result say what its data says.

    Servers of the Python SDK wrap what is no object as `{"result": ...}`, and give each item of a
    list as a text of its own. Others wrap a text, under any name.
    """
    if any(_same(said, value) for said in texts[:COMPARED_TEXTS]):
        return True
    name, inner = _only(value)
    if isinstance(inner, str) and texts == [clean(inner)]:
        return True
    if name != "result":
        return False
    items = cast("list[object]", inner) if isinstance(inner, list) else [inner]
    return len(items) == len(texts) and all(
        said == item or _same(said, item) for said, item in zip(texts, items, strict=True)
    )


def _is_content(blocks: Sequence[ContentBlock], value: object) -> bool:
    """Whether the data of a result is its content once more, wrapped: an image as base64, say."""
    _, inner = _only(value)
    if not isinstance(inner, list) or len(blocks) > COMPARED_BLOCKS:
        return False
    said = [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in blocks]
    return bool(said == inner)


def _only(value: object) -> tuple[str, object]:
    """The name and the value of what is wrapped in an object; nothing, where more is in it."""
    if not isinstance(value, dict):
        return "", None
    fields = cast("dict[str, object]", value)
    return next(iter(fields.items())) if len(fields) == 1 else ("", None)


def _same(text: str, value: object) -> bool:
    if len(text) > COMPARED_CHARS_MAX:  # read as JSON, a text of a few MiB may become gigabytes
        return False
    try:
        return bool(json.loads(text) == value)
    except (ValueError, RecursionError):
        return False


async def _mismatch(schema: dict[str, Any], value: object, text: str) -> str | None:
    if len(text) > CHECKED_BYTES_MAX or schema_fault(schema) is not None:
        return None  # of another draft, most often: nobody can say
    try:
        async with asyncio.timeout(CHECK_S):
            found = await asyncio.to_thread(schema_problem, schema, value)
    except TimeoutError:
        return None
    return None if found is None else found[:500]
