"""Every base tool: as a model sees it, where it runs, and what a second execution would do.

Not what a tool does: files and commands are the sandbox service's, the rest is decided in the loop.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from domain.base_tools import commands, files, log, merge
from domain.base_tools.arguments import Arguments, parameters_of
from domain.definition import BASE_SKILL
from domain.tools import Lane, Safety, ToolEntry, ToolSpec


class BaseTool(NamedTuple):
    """A tool of the base skill: as the model sees it, as deciding sees it, and its arguments."""

    spec: ToolSpec
    entry: ToolEntry
    arguments: type[Arguments]


def _tool(
    name: str,
    arguments: type[Arguments],
    safety: Safety,
    description: str,
    lane: Lane = Lane.SANDBOX,
) -> BaseTool:
    return BaseTool(
        spec=ToolSpec(name=name, description=description, parameters=parameters_of(arguments)),
        entry=ToolEntry(name=name, skill=BASE_SKILL, lane=lane, safety=safety),
        arguments=arguments,
    )


_READING = (
    _tool(
        "readTextFile",
        files.ReadTextFile,
        Safety.READ_ONLY,
        "Read a UTF-8 text file of the workspace, or the lines `from` (counted from 0) up to, but "
        "not including, `to`. Returns path, content, from, to and totalLines. "
        "Read large files in parts.",
    ),
    _tool(
        "listDirectory",
        files.ListDirectory,
        Safety.READ_ONLY,
        "List a directory of the workspace: name, type, size and time of change of each entry.",
    ),
    _tool(
        "glob",
        files.Glob,
        Safety.READ_ONLY,
        "Find files and directories of the workspace by a pattern for their paths. Returns sorted "
        "paths. Links are not followed, and .git is left out unless `path` leads into it.",
    ),
    _tool(
        "grep",
        files.Grep,
        Safety.READ_ONLY,
        "Search text files of the workspace line by line with a regular expression. Returns "
        "path:line:text, lines counted from 1. Binary files, links and .git are left out.",
    ),
    _tool(
        "getFileInfo",
        files.GetFileInfo,
        Safety.READ_ONLY,
        "Type, size, time of change and permissions of one path; of a link, where it leads.",
    ),
    _tool(
        "readImageFile",
        files.ReadImageFile,
        Safety.READ_ONLY,
        "Look at an image of the workspace: PNG, JPEG, GIF or WebP.",
    ),
    _tool(
        "readPdfFile",
        files.ReadPdfFile,
        Safety.READ_ONLY,
        "Look at a PDF of the workspace. Returns the document and the text in it.",
    ),
    # What a finished call printed never changes.
    _tool(
        "readResult",
        commands.ReadResult,
        Safety.READ_ONLY,
        "Read more of the output of an earlier call whose answer was truncated: the lines, or "
        "bytes, `from` up to, but not including, `to`.",
    ),
)

_CHANGING = (
    # The same bytes at the same path: doing it again changes nothing that this call did not
    # already change, and a write lost to a crash costs one more write instead of a question to
    # the model. What a second execution can undo is an edit that somebody made in between without
    # waiting for this call to end, and such an edit had no order to rely on in the first place.
    _tool(
        "writeTextFile",
        files.WriteTextFile,
        Safety.IDEMPOTENT,
        "Create a UTF-8 text file in the workspace, or replace one as a whole; missing folders "
        "are created. Returns path, bytes and created. To change a part of it, use editTextFile.",
    ),
    # The passage must be there, and afterwards it is not; with replaceAll it may be again.
    _tool(
        "editTextFile",
        files.EditTextFile,
        Safety.UNSAFE,
        "Replace passages of a text file in the workspace. `oldText` must occur exactly once: "
        "include enough lines around it to be unique. For several passages give `edits`: all of "
        "them are done, or none. Line endings of the file are kept.",
    ),
    # Twice is twice.
    _tool(
        "appendTextFile",
        files.AppendTextFile,
        Safety.UNSAFE,
        "Append text to an existing file of the workspace. No line end is added.",
    ),
    # A second move or delete meets another file, or none: it would fail, or take what is new.
    _tool(
        "moveFile",
        files.MoveFile,
        Safety.UNSAFE,
        "Move or rename a file, link or directory of the workspace; missing folders are created. "
        "Nothing is replaced unless `overwrite` is true.",
    ),
    _tool(
        "deleteFile",
        files.DeleteFile,
        Safety.UNSAFE,
        "Delete a file or link of the workspace, or with `recursive` a directory and all in it.",
    ),
    # A directory that is there already is an answer, not a failure.
    _tool(
        "createDirectory",
        files.CreateDirectory,
        Safety.IDEMPOTENT,
        "Make a directory in the workspace, with those above it. Returns path and created.",
    ),
)

_RUNNING = (
    # Nobody knows what a command does.
    _tool(
        "exec",
        commands.Exec,
        Safety.UNSAFE,
        "Run a program in the sandbox, in the workspace. Give command and args (no shell), or "
        "shell: a script for bash. Returns exitCode and output (standard output, then standard "
        "error). Nothing keeps running after the call: background processes are killed when the "
        "program ends; for those use startProcess. No network but what your expert allows.",
    ),
    _tool(
        "startProcess",
        commands.StartProcess,
        Safety.UNSAFE,
        "Start a program that keeps running beside you, such as a server. Returns a handle for "
        "readProcess, writeProcess and stopProcess. It ends with this run's sandbox at the latest.",
    ),
    # Output has an offset: reading it moves nothing.
    _tool(
        "readProcess",
        commands.ReadProcess,
        Safety.READ_ONLY,
        "Read what a process printed, both streams together, from a byte on. Returns output, "
        "from, to, running and, once it has ended, exitCode.",
    ),
    _tool(
        "writeProcess",
        commands.WriteProcess,
        Safety.UNSAFE,
        "Write to the standard input of a process, or close it.",
    ),
    # A handle means one process for ever, and one that has ended stays so.
    _tool(
        "stopProcess",
        commands.StopProcess,
        Safety.IDEMPOTENT,
        "End a process and all it started. Returns its exitCode.",
    ),
    _tool(
        "listProcesses",
        commands.ListProcesses,
        Safety.READ_ONLY,
        "The processes of this run: handle, command, running, exitCode and bytes of output.",
    ),
)

_MERGING = (
    _tool(
        "mergeWorkspace",
        merge.MergeWorkspace,
        Safety.IDEMPOTENT,
        "Take over what a delegate changed in its own copy of the workspace, file by file. Returns "
        "written, removed, conflicts (paths that changed on both sides) and applied.",
    ),
)

_IN_THE_LOG = (
    _tool(
        "todo",
        log.Todo,
        Safety.IDEMPOTENT,
        "Keep a list of what is to do: append titles with newTodos, mark ids as done with "
        "completedTodos. Returns the whole list each time; without arguments, just that.",
        Lane.LOOP,
    ),
    _tool(
        "clearTodo",
        log.ClearTodo,
        Safety.IDEMPOTENT,
        "Empty the list of what is to do; ids start at 0 again.",
        Lane.LOOP,
    ),
    _tool(
        "attemptCompletion",
        log.AttemptCompletion,
        Safety.IDEMPOTENT,
        "End the work with a result, once everything is done. While something is left on the list "
        "of what is to do, it returns that instead and the work goes on.",
        Lane.LOOP,
    ),
)

BASE_TOOLS: dict[str, BaseTool] = {
    tool.spec.name: tool for tool in (*_READING, *_CHANGING, *_RUNNING, *_MERGING, *_IN_THE_LOG)
}
"""Every base tool by name."""


def base_tool(name: str) -> BaseTool | None:
    """The base tool of that name, if there is one."""
    return BASE_TOOLS.get(name)


def select_base_tools(
    *,
    pick: Sequence[str] = (),
    omit: Sequence[str] = (),
    tools: Mapping[str, BaseTool] = BASE_TOOLS,
) -> dict[str, BaseTool]:
    """The base tools that a skill declaration leaves.

    `omit` is taken away first, then `pick` keeps only what it names; an empty `pick` keeps all.
    A name that no tool has is for whoever reads the declaration to report.
    """
    left = {name: tool for name, tool in tools.items() if name not in omit}
    return {name: tool for name, tool in left.items() if not pick or name in pick}
