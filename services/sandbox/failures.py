"""What goes wrong in the sandbox: errors the model reads, and a sandbox that is not there.

Not how they are worded as a result: `tools/` does that.
"""

from enum import StrEnum

from domain.errors import Unavailable


class Code(StrEnum):
    """The `error` of a result: what a model can tell apart."""

    ALREADY_EXISTS = "already_exists"
    CONFLICT = "conflict"
    HARD_LINKED = "hard_linked"
    INVALID_ARGUMENTS = "invalid_arguments"
    INVALID_PATH = "invalid_path"
    IO_ERROR = "io_error"
    IS_DIRECTORY = "is_directory"
    IS_SYMLINK = "is_symlink"
    NOT_EMPTY = "not_empty"
    NO_MATCH = "no_match"
    NO_PROCESS = "no_process"
    NO_RESULT = "no_result"
    NO_SPACE = "no_space"
    NOT_A_DIRECTORY = "not_a_directory"
    NOT_AN_IMAGE = "not_an_image"
    NOT_A_FILE = "not_a_file"
    NOT_A_PDF = "not_a_pdf"
    NOT_FOUND = "not_found"
    NOT_TEXT = "not_text"
    NOT_UNIQUE = "not_unique"
    OUTSIDE_WORKSPACE = "outside_workspace"
    PERMISSION_DENIED = "permission_denied"
    READ_ONLY = "read_only"
    SHELL_SYNTAX = "shell_syntax"
    STATE_FOLDER = "state_folder"
    SYMLINK_LOOP = "symlink_loop"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    TOO_SLOW = "too_slow"
    UNKNOWN_TOOL = "unknown_tool"


class ToolError(Exception):
    """A call that cannot be done as asked: `code` names it, `message` says what to change."""

    def __init__(self, code: Code, message: str, **details: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class SandboxUnavailable(Unavailable):
    """No sandbox can be had here; commands are refused rather than run without one."""


class NotAhead(SandboxUnavailable):
    """Nothing of a sandbox can be made here before its workspace is known, now or later."""
