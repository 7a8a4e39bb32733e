"""What a model calls the tools of MCP servers: their own names where that is possible.

Not which tools there are. The same tools get the same names, whatever the order they come in.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable

from domain.record import digest_of

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What the strictest of the providers takes as the name of a tool."""

NAME_CHARS_MAX = 64
HASH_CHARS = 8

_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


def tool_names(
    taken: Collection[str], wanted: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """A name for each tool, given as skill and remote name (`tool:search`).

    A tool keeps its server's name if that is a name at all, and neither taken nor wanted twice;
    else it is `skill__name`, cut and with a hash where even that is no name or is not free.
    """
    tools = sorted(set(wanted))
    plain = {tool: own_name(tool[1]) for tool in tools}
    counts = Counter(plain.values())
    names = {
        tool: name
        for tool, name in plain.items()
        if counts[name] == 1 and name not in taken and TOOL_NAME.fullmatch(name)
    }
    used = {*taken, *names.values()}
    for tool in tools:
        if tool not in names:
            names[tool] = _apart(tool, used)
            used.add(names[tool])
    return names


def own_name(remote: str) -> str:
    """What a server's tool would like to be called: prompts and resources say what they are."""
    kind, _, name = remote.partition(":")
    match kind:
        case "prompt":
            return f"prompt_{name}"
        case "resources":
            return "listResources"
        case "resource":
            return "readResource"
        case _:
            return name


def _apart(tool: tuple[str, str], used: Collection[str]) -> str:
    skill, remote = tool
    spelled = f"{_fit(skill)}__{_fit(own_name(remote))}"
    exact = own_name(remote) == _fit(own_name(remote)) and skill == _fit(skill)
    if exact and len(spelled) <= NAME_CHARS_MAX and spelled not in used:
        return spelled
    digest = digest_of(f"{skill}\x00{remote}".encode())[:HASH_CHARS]
    return f"{spelled[: NAME_CHARS_MAX - HASH_CHARS - 1]}_{digest}"


def _fit(text: str) -> str:
    return _UNFIT.sub("_", text).strip("_") or "tool"
