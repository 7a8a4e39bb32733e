"""Which package a server comes from, and whether its version is fixed. Not where it is fetched."""

import re
from typing import NamedTuple

from domain.definition import McpStdioSkill
from domain.topology import SEMVER

RUNNERS = frozenset({"npx", "uvx"})
"""Commands that fetch the package that they run."""

_EXACT = re.compile(r"(?P<name>@?[^@=]+)(?:@|==)(?P<version>[^@=]+)")
_TAKES_VALUE = frozenset({"-p", "--package", "--from", "--with", "--python", "-w"})


class Package(NamedTuple):
    """A package by name; `version` is empty where it is whatever is newest."""

    name: str
    version: str = ""


def pinned_package(skill: McpStdioSkill) -> Package | None:
    """The package that a skill runs; None where its command fetches none."""
    if skill.command.rsplit("/", 1)[-1] not in RUNNERS:
        return None
    named = _option(skill.args)
    found = named or next((arg for arg in skill.args if not arg.startswith("-")), "")
    if not found:
        return None
    exact = _EXACT.fullmatch(found)
    if exact is None or not _fixed(exact["version"]):
        return Package(exact["name"] if exact else found)
    return Package(exact["name"], exact["version"])


def _option(args: tuple[str, ...]) -> str:
    """The package that an option names, since it differs from the program that is run."""
    for index, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in {"-p", "--package", "--from"}:
            if equals:
                return value
            return args[index + 1] if index + 1 < len(args) else ""
        if not arg.startswith("-") and (index == 0 or args[index - 1] not in _TAKES_VALUE):
            return ""  # what follows the program is its own
    return ""


def _fixed(version: str) -> bool:
    return SEMVER.fullmatch(version) is not None or bool(re.fullmatch(r"\d+(?:\.\w+)+", version))
