"""How a model may name a file: the spelling of a path, checked. Not its resolution on the disk."""

from services.sandbox.failures import Code, ToolError

MOUNT = "/workspace"
"""Where the sandbox mounts the workspace, so also how absolute paths may begin."""

STATE_FOLDER = ".peritus"
"""Peritus' own folder inside a workspace: refused, and hidden from listings and commands."""

PATH_BYTES_MAX = 4096


def is_state_folder(name: str) -> bool:
    """Whether a name at the top of the workspace means the state folder, on any file system."""
    return name.casefold() == STATE_FOLDER


def state_folder_refused(path: str) -> ToolError:
    """The failure for every way of asking for the state folder."""
    return ToolError(
        Code.STATE_FOLDER, f"{path!r} belongs to Peritus itself and is closed; use another path"
    )


def relative_parts(path: str) -> tuple[str, ...]:
    """The components of a path below the workspace; none at all means the workspace itself.

    `..` stays in: only the file system knows what it leads to when links are involved.

    Raises:
        ToolError: the path is empty, malformed, outside the workspace or in the state folder.
    """
    if not path or "\0" in path:
        raise ToolError(Code.INVALID_PATH, "give a path; '.' is the workspace itself")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise ToolError(Code.INVALID_PATH, "the path is not valid Unicode text") from None
    if size > PATH_BYTES_MAX:
        raise ToolError(Code.INVALID_PATH, f"the path is longer than {PATH_BYTES_MAX} bytes")
    inside = path
    if path == "~" or path.startswith("~/"):
        inside = path[1:].lstrip("/")
    elif path == MOUNT or path.startswith(f"{MOUNT}/"):
        inside = path[len(MOUNT) :].lstrip("/")
    elif path.startswith("/"):
        raise outside(path)
    parts = tuple(part for part in inside.split("/") if part not in {"", "."})
    if parts and is_state_folder(parts[0]):
        raise state_folder_refused(path)
    return parts


def outside(path: str) -> ToolError:
    """The failure for a path that leads out of the workspace, by its spelling or by a link."""
    return ToolError(
        Code.OUTSIDE_WORKSPACE,
        f"{path!r} leads outside the workspace; use a path relative to it, or below {MOUNT}",
    )
