"""The tools that look at files and folders: what each answers. Not the checks of `workspace.py`."""

import stat
import time
from datetime import UTC, datetime

from commands.media import PDF, media_type_of
from domain.base_tools import GetFileInfo, Glob, ListDirectory, ReadTextFile
from services.sandbox.changing import describe
from services.sandbox.disk import FOLDER_READ_FLAGS, named_errors, shown, type_of
from services.sandbox.failures import Code, ToolError
from services.sandbox.globs import TooManyAlternatives, matcher
from services.sandbox.paths import is_state_folder
from services.sandbox.tools.answers import Answer
from services.sandbox.tools.desk import Desk
from services.sandbox.trees import Walk
from services.secrets.cuts import within

READ_BYTES_MAX = 256 * 1024
ENTRIES_MAX = 1000
PATHS_MAX = 1000

CUT = {
    "entries": "there are too many files; narrow it with path",
    "time": "it took too long; narrow it with path",
    "depth": "folders are nested too deep; name one of them with path",
    "paths": f"there are more than {PATHS_MAX}; narrow it with path or pattern",
    "lines": "there are too many matches; narrow it with path, glob or pattern",
}
"""What each limit of a walk or search means to a model."""


def read_text_file(desk: Desk, arguments: ReadTextFile) -> Answer:
    """Some lines of a text file, as they are on the disk.

    Raises:
        ToolError: no such file, not text, an impossible range, or more than fits in one answer.
    """
    text = text_of(arguments.path, desk.look(arguments.path).content)
    lines = lines_of(text)
    start, stop = bounds(arguments.from_, arguments.to, len(lines))
    begin = sum(map(len, lines[:start]))
    end = begin + sum(map(len, lines[start:stop]))
    content = within(desk.redactor(), text, begin, end)
    size = len(content.encode())
    if size > READ_BYTES_MAX:
        message = (
            f"lines {start} to {stop} of {arguments.path!r} have {size} bytes, more than the "
            f"{READ_BYTES_MAX} of one answer; read fewer lines with `from` and `to`"
        )
        raise ToolError(Code.TOO_LARGE, message, size=size, totalLines=len(lines))
    return {
        "path": arguments.path,
        "content": content,
        "from": start,
        "to": stop,
        "totalLines": len(lines),
    }


def list_directory(desk: Desk, arguments: ListDirectory) -> Answer:
    """What is in a folder. A link is an entry like any other, wherever it leads.

    Raises:
        ToolError: no such folder, or not a folder.
    """
    entries, total = desk.workspace.list(arguments.path, ENTRIES_MAX)
    items = [
        {
            "name": entry.name,
            "type": entry.type,
            "size": entry.size,
            "modified": _time(entry.modified_s),
        }
        for entry in entries
    ]
    answer: Answer = {"path": arguments.path, "items": items, "total": total}
    return answer if total <= ENTRIES_MAX else {**answer, "truncated": True}


def glob(desk: Desk, arguments: Glob) -> Answer:
    """The paths below a folder that a pattern means, as they are named in the workspace.

    Raises:
        ToolError: no such folder, or a pattern that stands for too many.
    """
    try:
        wanted = matcher(arguments.pattern)
    except TooManyAlternatives as error:
        raise ToolError(Code.INVALID_ARGUMENTS, f"argument 'pattern': {error}") from None
    found: list[str] = []
    with (
        named_errors(arguments.path),
        desk.workspace.opened(arguments.path, FOLDER_READ_FLAGS) as top,
    ):
        at_root = desk.workspace.is_root(top)
        walk = Walk(
            time.monotonic,
            lambda name: at_root and is_state_folder(name),
            stopped=desk.stop.is_set,
        )
        for entry in walk.below(top):
            if wanted(entry.path):
                if len(found) >= PATHS_MAX:
                    walk.cut = "paths"
                    break
                found.append(f"{entry.path}/" if entry.is_folder else entry.path)
    answer: Answer = {"path": arguments.path, "paths": [shown(path) for path in found]}
    return answer if not walk.cut else {**answer, "truncated": True, "why": CUT[walk.cut]}


def get_file_info(desk: Desk, arguments: GetFileInfo) -> Answer:
    """What one entry is.

    Raises:
        ToolError: there is none.
    """
    found, target = describe(desk.workspace, arguments.path)
    answer: Answer = {
        "path": arguments.path,
        "type": type_of(found),
        "size": found.st_size,
        "modified": _time(found.st_mtime),
        "permissions": stat.filemode(found.st_mode),
    }
    return answer if target is None else {**answer, "target": target}


def text_of(path: str, content: bytes) -> str:
    """The content of a file as text.

    Raises:
        ToolError: it is not text; the message names the tool for what it is.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        media_type = media_type_of(content)
        if media_type is None:
            how = "look at it with exec, for example file or xxd"
        else:
            how = f"look at it with {'readPdfFile' if media_type == PDF else 'readImageFile'}"
        message = f"{path!r} is not UTF-8 text (byte {error.start}); {how}"
        raise ToolError(Code.NOT_TEXT, message) from None


def lines_of(text: str) -> list[str]:
    """The lines with their ends; only LF ends a line."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def bounds(start: int | None, stop: int | None, total: int) -> tuple[int, int]:
    """A range as asked for, within what there is.

    Raises:
        ToolError: its end is before its beginning.
    """
    if stop is not None and stop < (start or 0):
        message = f"`to` ({stop}) is before `from` ({start})"
        raise ToolError(Code.INVALID_ARGUMENTS, message)
    return min(start or 0, total), total if stop is None else min(stop, total)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
