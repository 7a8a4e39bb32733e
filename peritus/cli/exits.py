"""What exit codes mean, so that a script need not read the output. Not the messages."""

from collections.abc import Mapping
from enum import IntEnum

from domain.errors import IntegrityViolated, PeritusError, Rejected, Unavailable
from domain.state import Status


class Exit(IntEnum):
    """The exit code of a command."""

    COMPLETED = 0
    WRONG = 1
    USAGE = 2
    FAILED = 3
    STOPPED = 4
    CANCELLED = 5
    REJECTED = 6
    UNAVAILABLE = 7
    WAITING = 8
    DETACHED = 10


MEANINGS: Mapping[Exit, str] = {
    Exit.COMPLETED: "the run completed, or what was asked is done",
    Exit.WRONG: "a check found something wrong, a stored history is damaged, or an internal error",
    Exit.USAGE: "bad usage, setting or definition; nothing was started",
    Exit.FAILED: "the run failed",
    Exit.STOPPED: "the run was stopped by a limit",
    Exit.CANCELLED: "the run was cancelled",
    Exit.REJECTED: "the run refused what was asked",
    Exit.UNAVAILABLE: "a server or a file is not available now",
    Exit.WAITING: "left because only a person can make the run go on, and --no-wait was given",
    Exit.DETACHED: "left before the run came to rest; it can be taken up again",
}

OF_STATUS: Mapping[Status, Exit] = {
    "completed": Exit.COMPLETED,
    "failed": Exit.FAILED,
    "stopped": Exit.STOPPED,
    "cancelled": Exit.CANCELLED,
}

USAGE_CODES = frozenset(
    {
        "ambiguous_run",
        "bad_definition",
        "bad_edit",
        "bad_env_file",
        "bad_filter",
        "bad_id",
        "bad_identity",
        "bad_input",
        "bad_limit",
        "bad_query",
        "bad_reasoning",
        "bad_secret",
        "bad_secret_file",
        "bad_setting",
        "bad_variable",
        "bad_workspace",
        "cannot_listen",
        "exists",
        "no_content",
        "no_definition_file",
        "no_egress",
        "no_login",
        "no_model",
        "no_script",
        "no_snapshot",
        "no_such_checkpoint",
        "no_such_file",
        "no_such_run",
        "no_such_secret",
        "no_workspace",
        "nothing_to_continue",
        "nothing_to_remember",
        "several_wait",
        "too_large",
        "too_long",
        "unknown_expert",
        "unknown_provider",
        "unknown_service",
        "unknown_skill",
        "unknown_template",
        "unknown_variable",
        "workspace_taken",
    }
)
"""Codes of refusals that come before a run is asked anything."""


def exit_of(error: PeritusError) -> Exit:
    """The exit code of an error."""
    match error:
        case Rejected(code=code):
            return Exit.USAGE if code in USAGE_CODES else Exit.REJECTED
        case Unavailable():
            return Exit.UNAVAILABLE
        case IntegrityViolated():
            return Exit.WRONG
        case _:  # a server that keeps too little, a payload that never fits
            return Exit.UNAVAILABLE


def epilog() -> str:
    """The table of exit codes, for help texts."""
    lines = [f"{code.value}: {MEANINGS[code]}." for code in Exit]
    return "Exit codes: " + " ".join(lines)
