"""Where the definition file of a project is. Not what is in it."""

from pathlib import Path

from domain.errors import Rejected

FILE_NAME = "perstack.toml"

STARTER = """\
[experts.hello]
description = "Greets."
instruction = "Greet the person who asks, in one sentence."
"""


def find_config(start: Path) -> Path:
    """The nearest `perstack.toml`, in `start` or the folders above it.

    Raises:
        Rejected: there is none; the message says where it was looked for and how to make one.
    """
    folder = start.resolve()
    for place in (folder, *folder.parents):
        candidate = place / FILE_NAME
        if candidate.is_file():
            return candidate
    example = "\n".join(f"    {line}" for line in STARTER.splitlines())
    message = (
        f"no {FILE_NAME} in {folder} or any folder above it; "
        f"name one with --config, or make one:\n\n{example}"
    )
    raise Rejected(code="no_definition_file", message=message)
