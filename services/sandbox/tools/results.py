"""`readResult`: the rest of what an earlier call printed. Not where it is kept."""

from collections.abc import Awaitable, Callable

from domain.base_tools import ReadResult
from domain.ids import RunRef
from domain.redaction import Redactor
from services.sandbox.failures import Code, ToolError
from services.sandbox.tools.answers import Answer
from services.sandbox.tools.reading import bounds
from services.secrets.cuts import data_within

RESULT_BYTES_MAX = 60_000

ReadWhole = Callable[[RunRef, str], Awaitable[bytes | None]]
"""(run, call) -> the whole output of an earlier call of the run, if it has one."""


async def read_result(
    read_whole: ReadWhole, ref: RunRef, arguments: ReadResult, redactor: Redactor
) -> Answer:
    """Some lines or bytes of an output, as many as fit, and how many there are.

    A value that became known only after the output was kept may lie where the model cuts.

    Raises:
        ToolError: no output is kept for that call, or an impossible range.
    """
    whole = await read_whole(ref, arguments.call)
    if whole is None:
        message = (
            f"nothing is kept of a call {arguments.call!r} of this run; use the id that a "
            "truncated answer names"
        )
        raise ToolError(Code.NO_RESULT, message)
    by_bytes = arguments.unit == "bytes"
    answer = (_bytes if by_bytes else _lines)(whole, arguments, redactor)
    return {"call": arguments.call, **answer, "totalBytes": len(whole)}


def _lines(whole: bytes, arguments: ReadResult, redactor: Redactor) -> Answer:
    lines = _split(whole)
    start, stop = bounds(arguments.from_, arguments.to, len(lines))
    size = 0
    fits = start
    while fits < stop and size + len(lines[fits]) <= RESULT_BYTES_MAX:
        size += len(lines[fits])
        fits += 1
    if fits == start < stop:
        begins = sum(len(line) for line in lines[:start])
        message = (
            f"line {start} has {len(lines[start])} bytes, more than the {RESULT_BYTES_MAX} of one "
            f'answer; read it with unit "bytes" from {begins}'
        )
        raise ToolError(Code.TOO_LARGE, message, size=len(lines[start]))
    begins = sum(map(len, lines[:start]))
    content = data_within(redactor, whole, begins, begins + size)
    answer = _part(content, start, fits, more=fits < stop)
    return {**answer, "totalLines": len(lines)}


def _bytes(whole: bytes, arguments: ReadResult, redactor: Redactor) -> Answer:
    start, stop = bounds(arguments.from_, arguments.to, len(whole))
    fits = min(stop, start + RESULT_BYTES_MAX)
    content = data_within(redactor, whole, start, fits)
    return _part(content, start, fits, more=fits < stop)


def _part(content: bytes, start: int, stop: int, *, more: bool) -> Answer:
    answer: Answer = {
        "content": content.decode("utf-8", "replace"),
        "from": start,
        "to": stop,
    }
    return {**answer, "truncated": True, "more": f"read on from {stop}"} if more else answer


def _split(whole: bytes) -> list[bytes]:
    """The lines with their ends; only LF ends a line."""
    lines = [line + b"\n" for line in whole.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
