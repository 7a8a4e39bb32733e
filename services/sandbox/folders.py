"""Folders of the host that a sandbox sees and cannot change: their names inside. Not the mounts."""

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from services.sandbox.bubblewrap.view import reachable
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import GIVEN_FOLDER

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def check_folders(folders: Mapping[str, Path]) -> None:
    """Whether folders can be had inside by those names.

    Raises:
        SandboxUnavailable: one is not below GIVEN_FOLDER, lies in another, or leads nowhere.
    """
    for inner, outer in folders.items():
        below = inner.removeprefix(f"{GIVEN_FOLDER}/")
        if below == inner or _PLAIN.fullmatch(below) is None:
            message = f"a folder of the host cannot be at {inner!r}: use a name in {GIVEN_FOLDER}"
            raise SandboxUnavailable(message)
        if any(inner.startswith(f"{other}/") for other in folders):
            message = f"a folder of the host cannot be at {inner!r}: another one is above it"
            raise SandboxUnavailable(message)
        if not outer.is_absolute():
            message = f"the folder {str(outer)!r} has no absolute path"
            raise SandboxUnavailable(message)


def check_reachable(folders: Mapping[str, Path], user: int) -> None:
    """Whether the user as whom commands run may pass all that is above the folders.

    Raises:
        SandboxUnavailable: that user may not, or a folder is not there.
    """
    for outer in folders.values():
        try:
            passes = reachable(outer, user)
        except OSError as error:
            message = f"the folder {outer.name!r} cannot be shown inside: {error.strerror}"
            raise SandboxUnavailable(message) from error
        if not passes:
            message = (
                f"the folder {outer.name!r} lies where user {user}, as whom commands run, does not "
                "get: have packages where everybody may pass (PERITUS_PACKAGES_DIR)"
            )
            raise SandboxUnavailable(message)


def open_folders(opened: ExitStack, folders: Mapping[str, Path]) -> dict[str, int]:
    """The folders by their names inside, held open (O_PATH) until the stack is left.

    Raises:
        SandboxUnavailable: one is not there, or is a link.
    """
    found: dict[str, int] = {}
    for inner, outer in folders.items():
        try:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            found[inner] = os.open(outer, flags)
        except OSError as error:
            message = f"the folder {outer.name!r} cannot be shown inside: {error.strerror}"
            raise SandboxUnavailable(message) from error
        opened.callback(os.close, found[inner])
    return found
