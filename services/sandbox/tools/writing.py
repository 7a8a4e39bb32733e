"""The tools that change files: what each does, and what it answers. Not the checks of a workspace.

Every change asks the desk's guard first, so that it does not undo another expert's unseen.
"""

from typing import NamedTuple

from domain.base_tools import (
    AppendTextFile,
    CreateDirectory,
    DeleteFile,
    Edit,
    EditTextFile,
    MoveFile,
    WriteTextFile,
)
from services.sandbox.changing import append, delete, make_folder, move
from services.sandbox.failures import Code, ToolError
from services.sandbox.seen import Stamp
from services.sandbox.tools.answers import Answer
from services.sandbox.tools.desk import Desk
from services.sandbox.tools.reading import text_of
from services.sandbox.workspace import changed_meanwhile


class Replaced(NamedTuple):
    """What one edit did: the first line it touched, counted from 0, and how many passages."""

    line: int
    passages: int


def write_text_file(desk: Desk, arguments: WriteTextFile) -> Answer:
    """A text file as a whole. The text is not echoed: the model wrote it and has it already.

    Raises:
        ToolError: the path cannot be written; nothing has changed.
    """
    content = arguments.text.encode()
    written = desk.workspace.put(arguments.path, content, desk.guard(arguments.path))
    desk.seen.change(desk.run, written.place, written.stamp)
    return {"path": arguments.path, "bytes": len(content), "created": written.created}


def edit_text_file(desk: Desk, arguments: EditTextFile) -> Answer:
    """Passages of a text file replaced, literally: all of them, or none.

    Models write LF. In a file whose lines all end in CRLF both texts are read that way, so that
    such a file can be edited and keeps its line endings.

    Raises:
        ToolError: no match, several matches, or the path cannot be read or written.
    """
    path = arguments.path
    looked = desk.workspace.look(path)
    text = text_of(path, looked.content)
    crlf = text.count("\r\n") == text.count("\n") > 0
    edits = arguments.all_edits()
    done: list[Replaced] = []
    for number, edit in enumerate(edits):
        which = f"edits[{number}]: oldText" if len(edits) > 1 else "oldText"
        text, replaced = _edited(text, edit, crlf=crlf, what=f"{which} in {path!r}")
        done.append(replaced)

    def guard(place: str, stamp: Stamp | None) -> None:
        if (place, stamp) != (looked.place, looked.stamp):
            raise changed_meanwhile(path)
        desk.guard(path)(place, stamp)

    content = text.encode()
    written = desk.workspace.put(path, content, guard)
    desk.seen.change(desk.run, written.place, written.stamp)
    answer: Answer = {"path": path, "bytes": len(content), "line": done[0].line}
    if arguments.edits is None and not arguments.replace_all:
        return answer
    return {**answer, "replaced": [one.passages for one in done]}


def _edited(text: str, edit: Edit, *, crlf: bool, what: str) -> tuple[str, Replaced]:
    old, new = edit.old_text, edit.new_text
    if crlf:
        old, new = _with_crlf(old), _with_crlf(new)
    count = text.count(old)
    if count == 0:
        message = (
            f"{what} does not occur; read the file and copy the passage exactly, with its "
            "indentation"
        )
        raise ToolError(Code.NO_MATCH, message, count=0)
    if count > 1 and not edit.replace_all:
        message = (
            f"{what} occurs {count} times; include more of the lines around the one you mean, or "
            "give replaceAll"
        )
        raise ToolError(Code.NOT_UNIQUE, message, count=count)
    line = text.count("\n", 0, text.index(old))
    return text.replace(old, new), Replaced(line, count)


def append_text_file(desk: Desk, arguments: AppendTextFile) -> Answer:
    """Text added to the end of a file.

    Raises:
        ToolError: no such file, or one that cannot be written; nothing has changed.
    """
    content = arguments.text.encode()
    written = append(desk.workspace, arguments.path, content, desk.guard(arguments.path))
    desk.seen.change(desk.run, written.place, written.stamp)
    return {"path": arguments.path, "bytes": len(content), "size": written.stamp.size}


def move_file(desk: Desk, arguments: MoveFile) -> Answer:
    """A file, link or folder under another name.

    Raises:
        ToolError: nothing there, something in the way; nothing has moved.
    """
    was, written = move(
        desk.workspace,
        arguments.source,
        arguments.destination,
        desk.guard(arguments.source, whole=True),
        overwrite=arguments.overwrite is True,
    )
    desk.seen.moved(was, written.place)
    desk.seen.change(desk.run, written.place, written.stamp)
    return {
        "source": arguments.source,
        "destination": arguments.destination,
        "replaced": not written.created,
    }


def delete_file(desk: Desk, arguments: DeleteFile) -> Answer:
    """A file or link removed, or a folder with all in it.

    Raises:
        ToolError: nothing there, or a folder that was not asked for or cannot be removed.
    """
    place, removed = delete(
        desk.workspace,
        arguments.path,
        desk.guard(arguments.path, whole=True),
        recursive=arguments.recursive is True,
        stopped=desk.stop.is_set,
    )
    desk.seen.gone(place)
    return {"path": arguments.path, "deleted": removed}


def create_directory(desk: Desk, arguments: CreateDirectory) -> Answer:
    """A folder, with those above it.

    Raises:
        ToolError: something else has that name.
    """
    return {"path": arguments.path, "created": make_folder(desk.workspace, arguments.path)}


def _with_crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")
