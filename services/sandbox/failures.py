"""What goes wrong in the sandbox: errors the model reads, and a sandbox that is not there.

Not how they are worded as a result: `tools.py` does that.
"""

from enum import StrEnum

from domain.errors import Unavailable


class Code(StrEnum):
    """The `error` of a result: what a model can tell apart."""

    HARD_LINKED = "hard_linked"
    INVALID_ARGUMENTS = "invalid_arguments"
    INVALID_PATH = "invalid_path"
    IO_ERROR = "io_error"
    IS_DIRECTORY = "is_directory"
    IS_SYMLINK = "is_symlink"
    NO_MATCH = "no_match"
    NO_SPACE = "no_space"
    NOT_A_DIRECTORY = "not_a_directory"
    NOT_A_FILE = "not_a_file"
    NOT_FOUND = "not_found"
    NOT_TEXT = "not_text"
    NOT_UNIQUE = "not_unique"
    OUTSIDE_WORKSPACE = "outside_workspace"
    PERMISSION_DENIED = "permission_denied"
    SHELL_SYNTAX = "shell_syntax"
    STATE_FOLDER = "state_folder"
    SYMLINK_LOOP = "symlink_loop"
    TOO_LARGE = "too_large"
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
