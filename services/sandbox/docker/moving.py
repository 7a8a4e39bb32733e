"""Puts a workspace into a container that runs already. Not the container, and not a mount of ours.

A copy of the workspace's mount that is attached nowhere is moved into the container's namespace of
mounts: it is there alone, so it ends with the container, however this process ends. Nothing but our
keeper runs in the container by then. Entering a namespace is a thread's own affair, so a thread
that does nothing else enters, and ends.
"""

import ctypes
import errno
import os
import threading
from contextlib import ExitStack

from services.sandbox.docker.host import Host
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.paths import MOUNT, STATE_FOLDER

CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18

# The calls have the same numbers on every architecture; they are of Linux 5.2.
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 428, 429, 430, 431, 432
OPEN_TREE_CLONE, AT_EMPTY_PATH, AT_RECURSIVE = 1, 0x1000, 0x8000
MOVE_FROM_DESCRIPTOR, MOVE_TO_DESCRIPTOR = 0x4, 0x40
AT_FDCWD = -100
SET_STRING, CREATE = 1, 6
CLOSE_ON_EXEC = 1  # of the calls for file systems
CLOSED = 0x1 | 0x2 | 0x4 | 0x8  # read-only, no set-uid, no devices, no programs

libc = ctypes.CDLL(None, use_errno=True)


def put_in(host: Host, workspace: int) -> None:
    """Have a container see an open folder at MOUNT, with its state folder closed.

    Raises:
        SandboxUnavailable: the kernel does not let us.
    """
    failed: list[OSError] = []

    def enter() -> None:
        try:
            _enter_and_mount(host, workspace)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="moving in")
    thread.start()
    thread.join()
    if failed:
        message = f"a workspace cannot be put into a container that runs already: {failed[0]}"
        raise SandboxUnavailable(message)


def _enter_and_mount(host: Host, workspace: int) -> None:
    with ExitStack() as opened:

        def own(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        how = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE
        tree = own(_call(OPEN_TREE, workspace, b"", how))
        namespace = own(os.open(f"/proc/{host.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        if not host.sees(host.pid):  # another process has its number by now
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        _checked(libc.unshare(CLONE_FS))
        _checked(libc.setns(namespace, CLONE_NEWNS))
        target = MOUNT.encode()
        _call(MOVE_MOUNT, tree, b"", AT_FDCWD, target, MOVE_FROM_DESCRIPTOR)
        # What is mounted on one side afterwards is not to be seen on the other.
        _checked(libc.mount(b"none", target, None, MS_REC | MS_PRIVATE, None))
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
        # By descriptor: the workspace may hold a link in its place.
        state = own(os.open(f"{MOUNT}/{STATE_FOLDER}", flags))
        closed = own(_empty_folder())
        _call(MOVE_MOUNT, closed, b"", state, b"", MOVE_FROM_DESCRIPTOR | MOVE_TO_DESCRIPTOR)


def _empty_folder() -> int:
    """A folder in memory that nobody can change, mounted nowhere yet."""
    made = _call(FSOPEN, b"tmpfs", CLOSE_ON_EXEC)
    try:
        for name, value in ((b"size", b"4096"), (b"mode", b"0555")):
            _call(FSCONFIG, made, SET_STRING, name, value, 0)
        _call(FSCONFIG, made, CREATE, None, None, 0)
        return _call(FSMOUNT, made, CLOSE_ON_EXEC, CLOSED)
    finally:
        os.close(made)


def _call(number: int, *arguments: int | bytes | None) -> int:
    return _checked(libc.syscall(number, *arguments))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
