"""What a model sends, checked: a tool's arguments, and a program to run. Not the running."""

import difflib
import json
import re

from pydantic import ValidationError

from domain.base_tools import BASE_TOOLS, Arguments, Exec, StartProcess, base_tool
from domain.team_tools import AddDelegateFromConfig
from domain.tools import Lane
from services.sandbox.failures import Code, ToolError

SHELL_SYNTAX = re.compile(r"[\s|&;<>()$`\"'*?{}~#]")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ARGUMENT_BYTES_MAX = 128 * 1024  # what Linux takes for one
ARGUMENTS_BYTES_MAX = 1024 * 1024
ARGUMENTS_MAX = 4000  # bubblewrap counts to 9000, a variable as three
VARIABLES_MAX = 1000


def parse_arguments(tool: str, text: str) -> Arguments:
    """The arguments of a call to a tool of the sandbox lane.

    Raises:
        ToolError: no such tool here, or arguments that it does not take.
    """
    known = base_tool(tool)
    if known is None or known.entry.lane is not Lane.SANDBOX:
        names = [name for name, one in BASE_TOOLS.items() if one.entry.lane is Lane.SANDBOX]
        message = f"there is no tool {tool!r} here; there are {', '.join(names)}"
        raise ToolError(Code.UNKNOWN_TOOL, message)
    try:
        return known.arguments.model_validate_json(text or "{}")
    except ValidationError as error:
        takes = list(known.spec.parameters["properties"])
        problems = "; ".join(
            _problem(str(one["type"]), one["loc"], one["msg"], takes)
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        )
        message = f"{tool} was not run: {problems}"
        raise ToolError(Code.INVALID_ARGUMENTS, message) from None


def team_arguments(text: str) -> AddDelegateFromConfig:
    """The arguments of `addDelegateFromConfig`.

    Raises:
        ToolError: they are others than it takes.
    """
    try:
        return AddDelegateFromConfig.model_validate_json(text or "{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"addDelegateFromConfig was not run: {where}: {first['msg']}"
        raise ToolError(Code.INVALID_ARGUMENTS, message) from None


def _problem(kind: str, place: tuple[int | str, ...], said: str, takes: list[str]) -> str:
    name = ".".join(str(part) for part in place)
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(name, takes, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return f"unknown argument {name!r}{hint} (it takes {', '.join(takes)})"
    if kind == "missing":
        return f"argument {name!r} is missing"
    if kind == "value_error":  # our own words, about several arguments
        return said.removeprefix("Value error, ")
    if not place:
        return f"the arguments are not a JSON object ({said})"
    return f"argument {name!r}: {said}"


def vector_of(arguments: Exec | StartProcess) -> tuple[str, tuple[str, ...]]:
    """The program and its arguments; a script is bash's.

    Raises:
        ToolError: it could only fail in the sandbox, in words that mislead.
    """
    program: str
    args: tuple[str, ...]
    if arguments.shell is not None:
        program, args = "bash", ("-c", arguments.shell)
    else:
        program, args = arguments.command or "", arguments.args or ()
        _check_program(program, has_args=arguments.args is not None)
    env = arguments.env or {}
    words = (program, *args, *(f"{name}={value}" for name, value in env.items()))
    _check_words(words, len(args), len(env))
    for name in env:
        if ENV_NAME.fullmatch(name) is None:
            message = f"env: {name!r} is not the name of a variable"
            raise ToolError(Code.INVALID_ARGUMENTS, message)
    return program, args


def _check_program(program: str, *, has_args: bool) -> None:
    if not has_args and SHELL_SYNTAX.search(program):
        message = (
            f"command runs without a shell, so {program!r} would be the name of one program; give "
            f"shell={json.dumps(program)} instead, or what follows the program in args"
        )
        raise ToolError(Code.SHELL_SYNTAX, message)
    if program.startswith("-"):
        raise ToolError(Code.INVALID_ARGUMENTS, "command is the program, not an option of it")


def _check_words(words: tuple[str, ...], args: int, variables: int) -> None:
    if any("\0" in word for word in words):
        raise ToolError(Code.INVALID_ARGUMENTS, "no argument may contain a NUL character")
    if args > ARGUMENTS_MAX or variables > VARIABLES_MAX:
        message = (
            f"at most {ARGUMENTS_MAX} args and {VARIABLES_MAX} variables fit; write a file and "
            "pass its name, or use xargs"
        )
        raise ToolError(Code.TOO_LARGE, message)
    sizes = [len(word.encode()) for word in words]
    if max(sizes) >= ARGUMENT_BYTES_MAX or sum(sizes) > ARGUMENTS_BYTES_MAX:
        message = (
            f"arguments are limited to {ARGUMENT_BYTES_MAX} bytes each and {ARGUMENTS_BYTES_MAX} "
            "together; write a file and pass its name"
        )
        raise ToolError(Code.TOO_LARGE, message)
