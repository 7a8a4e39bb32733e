"""Network namespaces with nothing in them but loopback, and a listener made inside. Not the proxy.

A socket belongs to the namespace it was made in, whoever serves it: so what listens inside is
served from outside, and nothing leads from one to the other. Root makes a namespace in a thread
that ends with it; anybody else needs a user namespace, which only a process with a single thread
may make, so a small program does it and hands over what it made.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from typing import NamedTuple

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import PROXY_PORT
from services.sandbox.process import readable

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
LOOPBACK = "127.0.0.1"
BACKLOG = 128
HELPER_S = 10.0
MESSAGE_BYTES = 4096
DESCRIPTORS_MAX = 3


class Network(NamedTuple):
    """A network namespace, held open; `user` is the user namespace that owns it, if not ours."""

    net: int
    user: int | None
    listener: socket.socket | None

    def deaf(self) -> "Network":
        """The same without a listener: what knocks there is refused."""
        if self.listener is not None:
            self.listener.close()
        return self._replace(listener=None)

    def close(self) -> None:
        """Let go of it: it is gone when the last process in it is."""
        os.close(self.net)
        if self.user is not None:
            os.close(self.user)
        if self.listener is not None:
            self.listener.close()


async def make_network(*, privileged: bool, listen: bool) -> Network:
    """A new network namespace with loopback up, and a listener at PROXY_PORT if it is wanted.

    Raises:
        SandboxUnavailable: the kernel does not let us.
    """
    if not privileged:
        return await _by_helper(listen=listen)
    try:
        return await _in_a_thread(listen=listen)
    except OSError as error:
        message = f"no network namespace can be made: {error.strerror}"
        raise SandboxUnavailable(message) from error


async def _in_a_thread(*, listen: bool) -> Network:
    """The thread is not used again: it can never come back to our own network."""
    pool = ThreadPoolExecutor(1)
    try:
        work = asyncio.get_running_loop().run_in_executor(
            pool, functools.partial(_unshare, listen=listen)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(_close_made)
            raise
    finally:
        pool.shutdown(wait=False)


def _close_made(work: "asyncio.Future[Network]") -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()


def _unshare(*, listen: bool) -> Network:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with contextlib.ExitStack() as made:
        net = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        made.callback(os.close, net)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
        listener = _listen() if listen else None
        made.pop_all()
    return Network(net, None, listener)


def _listen() -> socket.socket:
    listener = socket.create_server((LOOPBACK, PROXY_PORT), backlog=BACKLOG)
    listener.settimeout(0)
    return listener


async def _by_helper(*, listen: bool) -> Network:
    program = files("services.sandbox").joinpath("namespace_helper.py")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with as_file(program) as path, ours:
        with theirs:
            helper = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(path)),
                *(str(theirs.fileno()), str(PROXY_PORT if listen else 0)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
        try:
            async with asyncio.timeout(HELPER_S):
                await readable(ours.fileno())
            said, made, _, _ = socket.recv_fds(ours, MESSAGE_BYTES, DESCRIPTORS_MAX)
        except TimeoutError:
            message = "no network namespace can be made: the helper hangs"
            raise SandboxUnavailable(message) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                helper.kill()
            await helper.wait()
    if not made:
        message = f"no network namespace can be made: {said.decode() or 'the helper failed'}"
        raise SandboxUnavailable(message)
    return Network(user=made[0], net=made[1], listener=_adopted(made[2:]))


def _adopted(descriptors: list[int]) -> socket.socket | None:
    if not descriptors:
        return None
    listener = socket.socket(fileno=descriptors[0])
    listener.settimeout(0)
    return listener
