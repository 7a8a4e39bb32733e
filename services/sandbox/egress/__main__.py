"""The proxy process: `python -m services.sandbox.egress FD PARENT`. Only a worker starts it."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys

from services.sandbox.egress.service import Service
from services.sandbox.egress.wire import Channel, Start

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def main() -> None:
    """Serve the worker at the other end of the descriptor until it hangs up or dies."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _harden(parent)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(socket.socket(fileno=descriptor)))


def _harden(parent: int) -> None:
    """Die with the worker, leave no core, and let no other process of this user look inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        sys.exit("the worker is gone already")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the worker, which then hangs up


async def _serve(connection: socket.socket) -> None:
    channel = Channel(connection)
    first = await channel.receive()
    if first is None or not isinstance(first[0], Start):
        return
    # From here on there are values of secrets in memory: nothing is printed any more.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, sys.stderr.fileno())
    os.close(silence)
    try:
        async with asyncio.TaskGroup() as tasks:
            await Service(first[0], channel, tasks).run()
            os._exit(0)
    finally:
        os._exit(1)  # nothing is kept on disk: there is nothing to clean up


if __name__ == "__main__":
    main()
