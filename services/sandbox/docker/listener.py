"""A listening socket inside a container's network, served from outside. Not who serves it.

A socket belongs to the network namespace it was made in. Entering one is a thread's own affair, so
a thread that does nothing else enters, makes the socket, and ends.
"""

import ctypes
import errno
import os
import socket
import threading

from services.sandbox.docker.host import Host
from services.sandbox.failures import SandboxUnavailable

CLONE_NEWNET = 0x40000000
BACKLOG = 128


def listen_inside(host: Host, port: int) -> socket.socket:
    """Listen at 127.0.0.1:`port` as the container sees it. Blocks for a moment.

    Raises:
        SandboxUnavailable: its network cannot be entered.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            made.append(_enter_and_listen(host, port))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="listener")
    thread.start()
    thread.join()
    if made:
        return made[0]
    why = failed[0] if failed else "unknown"
    message = (
        f"the network of a container cannot be entered: {why}; egress from a container needs an "
        "engine on this machine, root, and no runtime but runc"
    )
    raise SandboxUnavailable(message)


def _enter_and_listen(host: Host, port: int) -> socket.socket:
    namespace = os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not host.sees(host.pid):  # another process has its number by now
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(namespace)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.settimeout(0)
    return listener
