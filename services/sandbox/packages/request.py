"""What `npx` and `uvx` are asked to run: packages, a program, its arguments. Not the fetching.

Only names and versions of a registry: what a folder, a URL or a repository holds may be another
thing at every start, and could not be had from the registry alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from domain.record import Record
from services.sandbox.failures import SandboxUnavailable

Kind = Literal["npm", "pypi"]

LATEST = "latest"

_NPM = re.compile(
    r"(?P<name>(@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9][a-z0-9._~-]*)(@(?P<version>[\w.^~<>=|*+ -]+))?",
    re.IGNORECASE | re.ASCII,
)
_PYPI = re.compile(
    r"(?P<name>[a-z0-9]([a-z0-9._-]*[a-z0-9])?)(?P<extras>\[[a-z0-9., _-]+\])?"
    r"(@(?P<version>[\w.!+*-]+)|(?P<range>\s*[<>=!~]=?=?\s*[\w.!+*-]+(\s*,\s*[<>=!~]=?=?\s*[\w.!+*-]+)*))?",
    re.IGNORECASE | re.ASCII,
)
_FILES = (".tgz", ".tar.gz", ".tar", ".zip", ".whl", ".tar.bz2", ".tar.xz")

NPX_FLAGS = frozenset({"-y", "--yes", "-q", "--quiet"})
UVX_FLAGS = frozenset({"-q", "--quiet"})


class PackageRefused(SandboxUnavailable):
    """What is asked for is no package that is fetched; the message says what to write instead."""


class Request(Record):
    """Packages to have, the first of which is the one that is named, and what to run of them.

    `packages` are written as their installer takes them. `program` is "" where the package is to
    say which.
    """

    kind: Kind
    name: str  # of the first package, as it was written
    packages: tuple[str, ...]
    program: str = ""
    args: tuple[str, ...] = ()


@dataclass
class _Read:
    """What was read of a command line so far."""

    named: list[str] = field(default_factory=list[str])
    beside: list[str] = field(default_factory=list[str])
    rest: tuple[str, ...] = ()


def requested(command: str, args: tuple[str, ...]) -> Request | None:
    """The packages that a command fetches and runs; None where it is a program of its own.

    Raises:
        PackageRefused: it asks for something else than packages of a registry.
    """
    match PurePosixPath(command).name, args:
        case "npx", _:
            read = _read(args, NPX_FLAGS, named=("-p", "--package"), beside=())
            return _request("npm", read, _npm)
        case "uvx", _:
            return _uvx(args)
        case "uv", ("tool", "run", *rest):
            return _uvx(tuple(rest))
        case _:
            return None


def pinned(command: str, args: tuple[str, ...], version: str) -> tuple[str, ...]:
    """The arguments with the first package at exactly one version.

    Raises:
        PackageRefused: they ask for something else than packages of a registry.
    """
    request = requested(command, args)
    if request is None:
        return args
    for at, arg in enumerate(args):
        option, equals, spec = arg.rpartition("=") if arg.startswith("--") else ("", "", arg)
        if not spec or (arg.startswith("-") and not equals):
            continue
        found = (_NPM if request.kind == "npm" else _PYPI).fullmatch(spec)
        if found is not None and found["name"] == request.name:
            extras = (found["extras"] or "") if request.kind == "pypi" else ""
            exact = f"{option}{equals}{request.name}{extras}@{version}"
            return (*args[:at], exact, *args[at + 1 :])
    return args


def exactly(request: Request, version: str) -> Request:
    """The request that `pinned` arguments make."""
    exact, rest = request.packages[0], request.packages[1:]
    if request.kind == "npm":
        exact = f"{request.name}@{version}"
    else:
        found = _PYPI.fullmatch(exact)
        extras = (found["extras"] or "") if found else ""
        exact = f"{request.name}{extras}=={version}"
    return request.model_copy(update={"packages": (exact, *rest)})


def _uvx(args: tuple[str, ...]) -> Request:
    read = _read(args, UVX_FLAGS, named=("--from",), beside=("--with",))
    return _request("pypi", read, _pypi)


def _read(
    args: tuple[str, ...], flags: frozenset[str], *, named: tuple[str, ...], beside: tuple[str, ...]
) -> _Read:
    """The options before the first word that is none."""
    read, left = _Read(), list(args)
    while left:
        arg = left.pop(0)
        option, equals, value = arg.partition("=")
        if arg == "--":
            break
        if not arg.startswith("-"):
            left.insert(0, arg)
            break
        if arg in flags:
            continue
        if option in (*named, *beside) and not (equals or left):
            message = f"the option {arg!r} wants the name of a package after it"
            raise PackageRefused(message)
        if option not in (*named, *beside):
            known = ", ".join(sorted((*flags, *named, *beside)))
            message = f"the option {arg!r} is not known here; there are: {known}"
            raise PackageRefused(message)
        into = read.named if option in named else read.beside
        into.append(value if equals else left.pop(0))
    read.rest = tuple(left)
    return read


def _request(kind: Kind, read: _Read, spelled: Callable[[str], tuple[str, str]]) -> Request:
    if not read.rest:
        message = "there is nothing to run: name a package, or a program of one"
        raise PackageRefused(message)
    program, *args = read.rest
    specs = [*read.named, *read.beside] if read.named else [program, *read.beside]
    names, packages = zip(*map(spelled, specs), strict=True)
    if not read.named:
        program = names[0] if kind == "pypi" else ""
    return Request(
        kind=kind, name=names[0], packages=tuple(packages), program=program, args=tuple(args)
    )


def _npm(spec: str) -> tuple[str, str]:
    """The name in a spec, and the spec for npm."""
    found = _NPM.fullmatch(spec)
    if found is None or spec.lower().endswith(_FILES):
        raise _refused(spec, "npm", "name, name@1.2.3 or @scope/name@1.2.3")
    return found["name"], f"{found['name']}@{found['version'] or LATEST}"


def _pypi(spec: str) -> tuple[str, str]:
    """The name in a spec, and the spec for pip."""
    found = _PYPI.fullmatch(spec)
    if found is None or spec.lower().endswith(_FILES):
        raise _refused(spec, "Python", "name, name@1.2.3, name==1.2.3 or name[extra]>=1.2")
    version, wanted = found["version"], found["range"] or ""
    if version is not None and version != LATEST:
        wanted = f"=={version}"
    return found["name"], f"{found['name']}{found['extras'] or ''}{wanted.replace(' ', '')}"


def _refused(spec: str, kind: str, forms: str) -> PackageRefused:
    message = (
        f"{spec!r} names no {kind} package of a registry: write {forms}. Folders, files, URLs and "
        "repositories are not fetched: publish the package, or put the program into the workspace "
        "or the image"
    )
    return PackageRefused(message)
