"""The file tools of the base skill: what each does to a workspace, and what it answers.

Not the checks that keep them inside it: `workspace.py` does that, for every one of them.
"""

from datetime import UTC, datetime
from typing import Any

from domain.base_tools import EditTextFile, ListDirectory, ReadTextFile, WriteTextFile
from services.sandbox.failures import Code, ToolError
from services.sandbox.workspace import Workspace

READ_BYTES_MAX = 256 * 1024
ENTRIES_MAX = 1000

Answer = dict[str, Any]
"""A result as JSON."""


def read_text_file(workspace: Workspace, arguments: ReadTextFile) -> Answer:
    """Some lines of a text file, as they are on the disk.

    Raises:
        ToolError: no such file, not text, an impossible range, or more than fits in one answer.
    """
    text = _text_of(arguments.path, workspace.read(arguments.path))
    lines = _lines(text)
    start = min(arguments.from_ or 0, len(lines))
    stop = len(lines) if arguments.to is None else min(arguments.to, len(lines))
    if arguments.to is not None and arguments.to < (arguments.from_ or 0):
        message = f"`to` ({arguments.to}) is before `from` ({arguments.from_})"
        raise ToolError(Code.INVALID_ARGUMENTS, message)
    content = "".join(lines[start:stop])
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


def write_text_file(workspace: Workspace, arguments: WriteTextFile) -> Answer:
    """A text file as a whole. The text is not echoed: the model wrote it and has it already.

    Raises:
        ToolError: the path cannot be written; nothing has changed.
    """
    content = arguments.text.encode()
    created = workspace.write(arguments.path, content)
    return {"path": arguments.path, "bytes": len(content), "created": created}


def edit_text_file(workspace: Workspace, arguments: EditTextFile) -> Answer:
    """One passage of a text file replaced, literally and only if there is exactly one.

    Models write LF. In a file whose lines all end in CRLF both texts are read that way, so that
    such a file can be edited and keeps its line endings.

    Raises:
        ToolError: no match, several matches, or the path cannot be read or written.
    """
    text = _text_of(arguments.path, workspace.read(arguments.path))
    old, new = arguments.old_text, arguments.new_text
    if text.count("\r\n") == text.count("\n") > 0:
        old, new = _with_crlf(old), _with_crlf(new)
    count = text.count(old)
    if count == 0:
        message = (
            f"oldText does not occur in {arguments.path!r}; read the file and copy the passage "
            "exactly, with its indentation"
        )
        raise ToolError(Code.NO_MATCH, message, count=0)
    if count > 1:
        message = (
            f"oldText occurs {count} times in {arguments.path!r}; include more of the lines "
            "around the one you mean"
        )
        raise ToolError(Code.NOT_UNIQUE, message, count=count)
    line = text[: text.index(old)].count("\n")
    content = text.replace(old, new).encode()
    workspace.write(arguments.path, content)
    return {"path": arguments.path, "bytes": len(content), "line": line}


def list_directory(workspace: Workspace, arguments: ListDirectory) -> Answer:
    """What is in a folder. A link is an entry like any other, wherever it leads.

    Raises:
        ToolError: no such folder, or not a folder.
    """
    entries, total = workspace.list(arguments.path, ENTRIES_MAX)
    items = [
        {
            "name": entry.name,
            "type": entry.type,
            "size": entry.size,
            "modified": datetime.fromtimestamp(entry.modified_s, UTC).isoformat(timespec="seconds"),
        }
        for entry in entries
    ]
    answer: Answer = {"path": arguments.path, "items": items, "total": total}
    return answer if total <= ENTRIES_MAX else {**answer, "truncated": True}


def _text_of(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        message = (
            f"{path!r} is not UTF-8 text (byte {error.start}); look at it with exec, for example "
            "file or xxd"
        )
        raise ToolError(Code.NOT_TEXT, message) from None


def _lines(text: str) -> list[str]:
    """The lines with their ends; only LF ends a line."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _with_crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")
