"""A shell that waits in a container to become a command. Not the command: see `running.py`.

Making one costs what `docker exec` costs; obeying a line costs next to nothing. So a sandbox keeps
one prepared, and the engine, not the container, tells its streams and exit code.
"""

from pathlib import Path
from socket import socket
from typing import NamedTuple

from services.sandbox.docker.attach import first_line, hijack
from services.sandbox.docker.engine import Api, Engine, EngineError
from services.sandbox.docker.host import Host
from services.sandbox.docker.script import LAUNCH, SHELL

PREPARE_S = 20.0
"""How long the first line of a shell may take, in seconds."""


class Shell(NamedTuple):
    """One that waits: `number` is its pid inside, `pid` that on this machine, 0 if not known."""

    exec_id: str
    connection: socket
    number: int
    pid: int
    cell: Path | None
    ours: bool  # whether we may signal it


def number(said: bytes) -> int:
    """The number a shell says.

    Raises:
        EngineError: it says something else.
    """
    if not said.isdigit():
        message = "a prepared shell said something else than its number"
        raise EngineError(message)
    return int(said)


def prepare(engine: Engine, api: Api, host: Host | None, container: str, user: str) -> Shell:
    """Make a shell and wait until it listens. Blocks for some tens of milliseconds.

    Raises:
        EngineError: it cannot be made.
        OSError: the engine is gone.
    """
    exec_id = str(
        api.exec_create(container, [SHELL, "-c", LAUNCH], stdin=True, user=user, workdir="/")["Id"]
    )
    connection = engine.connect()
    try:
        connection.settimeout(PREPARE_S)
        path = f"/v{api.api_version}/exec/{exec_id}/start"
        hijack(connection, path, {"Detach": False, "Tty": False})
        said = first_line(connection)
        pid, cell, ours = 0, None, False
        if host is not None:
            pid = int(api.exec_inspect(exec_id).get("Pid") or 0)
            pid = pid if pid and host.sees(pid) else 0
            cell = host.cell(pid, f"exec-{exec_id[:16]}") if pid else None
            ours = bool(pid) and host.privileged
        return Shell(exec_id, connection, number(said), pid, cell, ours)
    except BaseException:
        connection.close()  # the shell reads the end of its input, and ends
        raise
