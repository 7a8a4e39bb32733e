"""What is in an installed tree: its version, its programs, and how they are started. Not a start.

Nothing is trusted that lies there: files are read beneath the open folder, and only as data.
"""

import configparser
import json
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Literal, cast

from domain.record import Record
from services.sandbox.failures import SandboxUnavailable, ToolError
from services.sandbox.packages.request import Kind, Request
from services.sandbox.packages.scripts import INTERPRETER, TREE
from services.sandbox.port import GIVEN_FOLDER, Command
from services.sandbox.workspace import Workspace

PACKAGE = f"{GIVEN_FOLDER}/package"
"""Where the tree lies in the sandbox of a skill."""

PROGRAMS_SHOWN = 20
_NAME = re.compile(r"[\w.+-]+", re.ASCII)
_PYTHON = re.compile(r"python\d+\.\d+")


class Program(Record):
    """A program of a package: `path` is within the tree."""

    how: Literal["node", "python", "itself"]
    path: str


class Installed(Record):
    """What is known of an installed tree, written down when it was made."""

    format: Literal[1] = 1
    kind: Kind
    name: str
    version: str  # of the package that was asked for
    packages: tuple[str, ...]
    registry: str
    interpreter: str = ""  # of Python packages: the program that runs them
    programs: dict[str, Program]

    def command(self, request: Request, folder: str) -> Command:
        """What starts the program that was asked for, with the tree seen at `folder`.

        Raises:
            SandboxUnavailable: there is no such program; the message names those there are.
        """
        program = self.programs[self._chosen(request.program)]
        path, args = f"{folder}/{program.path}", request.args
        match program.how:
            case "node":
                return Command("node", (path, *args))
            case "python":
                # HOME is the workspace: what lies there must not become part of the program.
                own = {"PYTHONPATH": folder, "PYTHONNOUSERSITE": "1"}
                return Command(self.interpreter, (path, *args), env=own)
            case "itself":
                return Command(path, args)

    def _chosen(self, wanted: str) -> str:
        bare = self.name.rpartition("/")[2]
        for name in self.programs:
            if _same(name, wanted or bare):
                return name
        if not wanted and len({program.path for program in self.programs.values()}) == 1:
            return next(iter(self.programs))
        known = ", ".join(sorted(self.programs)[:PROGRAMS_SHOWN]) or "none"
        message = (
            f"{self.name} {self.version} has no program {wanted or bare!r}; its programs: {known}"
        )
        raise SandboxUnavailable(message)


def look(workspace: Workspace, tree: Path, request: Request, registry: str) -> Installed:
    """What was installed.

    Raises:
        SandboxUnavailable: the package that was asked for is not there.
    """
    found = _npm(workspace, request) if request.kind == "npm" else _pypi(workspace, tree, request)
    version, programs = found
    if not version:
        message = f"{request.name} was installed, but is not there: its registry is at fault"
        raise SandboxUnavailable(message)
    return Installed(
        kind=request.kind,
        name=request.name,
        version=version,
        packages=request.packages,
        registry=registry,
        interpreter=_interpreter(workspace) if request.kind == "pypi" else "",
        programs=dict(sorted(programs.items())),
    )


def settle(tree: Path) -> None:
    """Have every user read the tree, and run what is to be run, whatever its packages say.

    Raises:
        SandboxUnavailable: there is no tree, or a link in its place.
    """
    if not stat.S_ISDIR(tree.lstat().st_mode):
        message = "what was installed is no folder"
        raise SandboxUnavailable(message)
    for _, folders, files, above in os.fwalk(tree, follow_symlinks=False):
        os.fchmod(above, 0o755)
        for name in (*folders, *files):
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                os.chmod(name, 0o755 if found.st_mode & 0o100 else 0o644, dir_fd=above)


def _npm(workspace: Workspace, request: Request) -> tuple[str, dict[str, Program]]:
    """The version of the first package, and the programs of those that were asked for."""
    version, programs = "", dict[str, Program]()
    for spec in request.packages:
        name = spec[: spec.rindex("@")]
        folder = f"node_modules/{name}"
        said = _json(workspace, f"{TREE}/{folder}/package.json")
        if name == request.name:
            version = str(said.get("version", ""))
        bins = said.get("bin")
        listed = {name.rpartition("/")[2]: bins} if isinstance(bins, str) else _table(bins)
        for program, path in listed.items():
            place = posixpath.normpath(f"{folder}/{path}") if isinstance(path, str) else ""
            if place.startswith(f"{folder}/") and _NAME.fullmatch(program):
                programs[program] = Program(how=_how(workspace, place), path=place)
    return version, programs


def _how(workspace: Workspace, path: str) -> Literal["node", "itself"]:
    """By its first line: all but scripts of other programs are for node."""
    first = b""
    with suppress(ToolError):
        first = workspace.read(f"{TREE}/{path}").partition(b"\n")[0]
    return "itself" if first.startswith((b"#!", b"\x7fELF")) and b"node" not in first else "node"


def _pypi(workspace: Workspace, tree: Path, request: Request) -> tuple[str, dict[str, Program]]:
    """The version of the first package, and the programs of all."""
    version, programs = "", dict[str, Program]()
    for name in sorted(os.listdir(tree)):  # noqa: PTH208 - names are all that is wanted
        if not name.endswith(".dist-info"):
            continue
        head = BytesHeaderParser().parsebytes(_read(workspace, f"{TREE}/{name}/METADATA"))
        if _same(str(head.get("Name", "")), request.name):
            version = str(head.get("Version", ""))
        for script in _scripts(_read(workspace, f"{TREE}/{name}/entry_points.txt")):
            if _NAME.fullmatch(script) and _read(workspace, f"{TREE}/bin/{script}"):
                programs[script] = Program(how="python", path=f"bin/{script}")
    return version, programs


def _interpreter(workspace: Workspace) -> str:
    said = _read(workspace, INTERPRETER).decode("ascii", "replace").strip()
    return said if _PYTHON.fullmatch(said) else "python3"


def _scripts(text: bytes) -> Iterator[str]:
    found = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    with suppress(configparser.Error):
        found.read_string(text.decode("utf-8", "replace"))
        if found.has_section("console_scripts"):
            yield from found.options("console_scripts")


def _json(workspace: Workspace, path: str) -> dict[str, object]:
    try:
        return _table(json.loads(_read(workspace, path)))
    except ValueError:
        return {}


def _table(value: object) -> dict[str, object]:
    """A JSON object as what it is; anything else as an empty one."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _read(workspace: Workspace, path: str) -> bytes:
    try:
        return workspace.read(path)
    except ToolError:
        return b""


def _same(one: str, other: str) -> bool:
    """Names of packages and their programs, as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()
