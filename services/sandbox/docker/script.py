"""What we say to a shell in a container: one line of its standard input. Not how it gets there.

The shell is `/bin/sh` of any image, so the words are those of POSIX. A line goes by standard input
because arguments and variables of an exec are there for everybody who may ask the engine.
"""

import os
import re
from collections.abc import Iterable, Mapping

from services.sandbox.environment import whole_env
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Command

SHELL = "/bin/sh"
LAUNCH = 'N="\n"; echo $$; IFS= read -r s && eval "$s"'
"""Says its number inside, then waits for a line and obeys it."""

GO = b"go\n"
"""Printed right before the command takes the shell's place: without it nothing ran."""

NO_FOLDER = b"cd\n"

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FORGOTTEN = ("HOSTNAME", "OLDPWD")
"""What engine and shell put into the environment."""


def quoted(text: str | bytes) -> bytes:
    """A word for the shell that means exactly this text, on one line.

    Raises:
        SandboxUnavailable: it holds a NUL, which no process can be given.
    """
    data = text if isinstance(text, bytes) else os.fsencode(text)
    if b"\0" in data:
        message = "a command, its arguments and its variables cannot hold a NUL"
        raise SandboxUnavailable(message)
    return b"'" + data.replace(b"'", b"'\\''").replace(b"\n", b"'\"$N\"'") + b"'"


def running(command: Command) -> bytes:
    """The line that makes the shell become the command.

    Raises:
        SandboxUnavailable: a word cannot be said.
    """
    secrets = {name: value.reveal() for name, value in command.secret_env.items()}
    env = whole_env({**command.env, **secrets})
    del env["PATH"]  # the image's, which the shell has
    words = b" ".join(quoted(word) for word in (command.program, *command.args))
    return (
        b"umask 022; "
        + b"cd -- %s 2>/dev/null || { echo cd; exit; }; " % quoted(command.cwd)
        + b"".join(b"unset %s; " % name.encode() for name in FORGOTTEN)
        + b"".join(b"export %s; " % one for one in _assignments(env))
        + b"echo go; exec %s\n" % words
    )


def _assignments(env: Mapping[str, str]) -> Iterable[bytes]:
    for name, value in env.items():
        if not NAME.fullmatch(name):
            message = f"{name!r} cannot name a variable: use letters, digits and _"
            raise SandboxUnavailable(message)
        yield name.encode() + b"=" + quoted(value)


def writing(folder: str, files: Mapping[str, bytes], mode: int) -> bytes:
    """The words that leave files of a mode in a folder.

    Raises:
        SandboxUnavailable: a name is more than a name.
    """
    steps = [b"umask %03o; " % (0o777 & ~mode)]
    for name, content in files.items():
        if "/" in name or name in {"", ".", ".."}:
            message = f"{name!r} cannot name a file in {folder}"
            raise SandboxUnavailable(message)
        steps.append(b"%s >%s || exit; " % (_printing(content), quoted(f"{folder}/{name}")))
    return b"".join(steps)


def _printing(content: bytes) -> bytes:
    """The words that print some bytes; as escapes only where they cannot be said plainly."""
    if b"\0" not in content:
        return b"printf %s " + quoted(content)
    return b"printf '" + b"".join(b"\\%03o" % byte for byte in content) + b"'"


def ending_group(number: int, signal: str) -> bytes:
    """The line that signals a command's group, from another shell."""
    return b"kill -%s -%d\n" % (signal.encode(), number)


def ending_session(number: int) -> bytes:
    """The line that kills, again and again, whatever is still in a command's session."""
    return (
        b"n=0; while [ $n -lt 100 ]; do n=$((n+1)); f=; "
        b"for p in /proc/[0-9]*; do IFS= read -r l <$p/stat || continue; "
        b'set -- ${l##*) }; [ "$4" = %d ] && [ "$1" != Z ] && f=1 && kill -KILL ${p#/proc/}; '
        b'done 2>/dev/null; [ -z "$f" ] && break; done\n' % number
    )


ENDING_ALL = b"kill -KILL -1\n"
"""The line that kills all a shell may kill, which is all that any command has started."""
