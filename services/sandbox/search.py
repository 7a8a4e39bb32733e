"""The search of `grep`, in a process of its own that can be killed. Not the tool's answer.

Python's expressions can take for ever on a short line, and nothing inside the process can stop
them. So the search gets a process: it limits itself in time and memory by the kernel's means, and
whoever started it kills it earlier. It gets one open folder and opens what the walk finds
in it, never along a link.

Standard input: one JSON object (`Request`). Standard output: a JSON value a line, matches first
(`[path, line, text, is_match]`), and `{"searched": n, "skipped": n, "cut": word}` last.
"""

import io
import json
import os
import re
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypedDict

from services.sandbox.globs import matcher
from services.sandbox.self_limit import limit_self
from services.sandbox.trees import Walk

FILE_BYTES_MAX = 16 * 1024 * 1024
LINE_CHARACTERS_MAX = 100_000
TEXT_CHARACTERS_MAX = 500
LINES_MAX = 20_000

CLIPPED = "..."
"""What stands for the rest of a line."""

BINARY_LOOK_BYTES = 8192
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Request(TypedDict):
    """What is asked: `top` is an open descriptor, `name` its path if it is a file, else ""."""

    top: int
    name: str
    pattern: str
    literal: bool
    ignore_case: bool
    glob: str
    context: int
    hide: str
    seconds: int


class Summary(TypedDict):
    """How much was looked at, and the word for what ended the search early."""

    searched: int
    skipped: int
    cut: str


class Line(NamedTuple):
    """A line that matched, or one near it."""

    path: str
    number: int
    text: str
    is_match: bool


def main() -> None:
    """Search, and say what was found as soon as it is."""
    request: Request = json.loads(sys.stdin.buffer.read())
    limit_self(request["seconds"])
    try:
        _say(search(request, _say))
    except (re.error, RecursionError, OverflowError) as error:
        _say({"refused": str(error)})
    except BrokenPipeError:  # enough was read
        os._exit(0)


def _say(said: object) -> None:
    sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
    sys.stdout.buffer.flush()


def search(request: Request, found: Callable[[Line], None]) -> Summary:
    """Search what the request names; a summary when everything was looked at or a limit met."""
    source = re.escape(request["pattern"]) if request["literal"] else request["pattern"]
    expression = re.compile(source, re.IGNORECASE if request["ignore_case"] else 0)
    hidden = request["hide"]
    seconds = request["seconds"]
    walk = Walk(time.monotonic, lambda name: name.casefold() == hidden, seconds_max=seconds)
    searched = skipped = said = 0
    for path, content in _contents(request, walk):
        if content is None:
            skipped += 1
            continue
        searched += 1
        for line in _lines(expression, path, content, request["context"]):
            if said >= LINES_MAX:
                return {"searched": searched, "skipped": skipped, "cut": "lines"}
            found(line)
            said += 1
    return {"searched": searched, "skipped": skipped, "cut": walk.cut}


def _contents(request: Request, walk: Walk) -> Iterator[tuple[str, str | None]]:
    """The text of each file that is asked for; None for what is not text, or too large."""
    if request["name"]:
        yield request["name"], _text(request["top"])
        return
    wanted = matcher(request["glob"]) if request["glob"] else None
    for entry in walk.below(request["top"]):
        if entry.is_file and (wanted is None or wanted(entry.path)):
            try:
                descriptor = os.open(entry.name, READ_FLAGS, dir_fd=entry.folder)
            except OSError:  # gone, closed to us, or a link by now
                yield entry.path, None
                continue
            try:
                yield entry.path, _text(descriptor)
            finally:
                os.close(descriptor)


def _text(descriptor: int) -> str | None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_BYTES_MAX:
        return None
    content = os.read(descriptor, BINARY_LOOK_BYTES)
    if b"\0" in content:
        return None
    if len(content) == BINARY_LOOK_BYTES:
        content += os.read(descriptor, FILE_BYTES_MAX)
    return content.decode("utf-8", "replace")


def _lines(expression: re.Pattern[str], path: str, content: str, context: int) -> Iterator[Line]:
    """The lines that match with those around them, each once, in order."""
    before: deque[Line] = deque(maxlen=context)
    after = 0
    for number, raw in enumerate(io.StringIO(content, newline="\n"), start=1):
        text = raw.rstrip("\r\n")[:LINE_CHARACTERS_MAX]
        match = expression.search(text)
        if match is not None:
            yield from before
            before.clear()
            yield Line(path, number, _clipped(text, match.start()), is_match=True)
            after = context
        elif after:
            after -= 1
            yield Line(path, number, _clipped(text, 0), is_match=False)
        elif context:
            before.append(Line(path, number, _clipped(text, 0), is_match=False))


def _clipped(text: str, at: int) -> str:
    """A long line's part from a little before a place on."""
    if len(text) <= TEXT_CHARACTERS_MAX:
        return text
    start = max(0, min(at - TEXT_CHARACTERS_MAX // 4, len(text) - TEXT_CHARACTERS_MAX))
    end = start + TEXT_CHARACTERS_MAX
    return f"{CLIPPED if start else ''}{text[start:end]}{CLIPPED if end < len(text) else ''}"
