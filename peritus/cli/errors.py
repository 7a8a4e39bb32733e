"""Errors as people read them: one clear line, a traceback only when asked for. Not a handler."""

import sys
import traceback
from typing import cast

from domain.errors import PeritusError
from peritus.cli.exits import Exit, exit_of
from peritus.logs import hidden

NAMED: tuple[type[BaseException], ...] = (PeritusError, BrokenPipeError, OSError)


def cause_of(error: BaseException) -> BaseException:
    """What a group of errors is about: the first that was raised on purpose, else the first."""
    found = list(_leaves(error))
    for kind in NAMED:
        for one in found:
            if isinstance(one, kind):
                return one
    return found[0]


def report(error: BaseException, *, debug: bool) -> Exit:
    """Say what went wrong on standard error; the exit code."""
    cause = cause_of(error)
    if debug:
        shown = hidden("".join(traceback.format_exception(error)))
        print(shown, end="", file=sys.stderr)  # noqa: T201
    if isinstance(cause, BrokenPipeError):
        return Exit.DETACHED
    if isinstance(cause, PeritusError):
        text = str(cause) or type(cause).__name__
        code = exit_of(cause)
    elif isinstance(cause, OSError):
        text, code = str(cause), Exit.UNAVAILABLE
    else:
        hint = "" if debug else "; --debug shows where"
        text, code = f"internal error: {type(cause).__name__}: {cause}{hint}", Exit.WRONG
    for line in hidden(text).splitlines():
        print(f"peritus: {line}", file=sys.stderr)  # noqa: T201
    return code


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for one in group.exceptions for leaf in _leaves(one)]
