"""Makes a user and a network namespace for whoever is not root, and hands them over. Stands alone.

It is run as a program of its own, because a process with threads may not make a user namespace.
Its arguments are a connected Unix socket and the port to listen at, or 0; it sends the user
namespace, the network namespace and the listener, or says what the kernel refused. A first command
waits for it, so it imports nothing that takes long: not even `socket` and `pathlib`.
"""

import _socket as plain
import ctypes
import fcntl
import os
import struct
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
BACKLOG = 128


def write(path: str, text: str) -> None:
    """Answer the kernel's question."""
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def unshare() -> None:
    """Become the owner of a network of one's own, as the same user as before."""
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{user} {user} 1")
    write("/proc/self/gid_map", f"{group} {group} 1")


def listen(port: int) -> int:
    """A socket that listens on loopback."""
    listener = plain.socket(plain.AF_INET, plain.SOCK_STREAM)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    return listener.detach()


def main() -> None:
    """Make them and send them."""
    port = int(sys.argv[2])
    outside = plain.socket(fileno=int(sys.argv[1]))
    try:
        unshare()
        any_socket = plain.socket(plain.AF_INET, plain.SOCK_DGRAM)
        fcntl.ioctl(any_socket.fileno(), SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
        made = [
            os.open("/proc/self/ns/user", os.O_RDONLY),
            os.open("/proc/self/ns/net", os.O_RDONLY),
            *([listen(port)] if port else []),
        ]
    except OSError as error:
        outside.send(str(error).encode())
    else:
        sent = struct.pack(f"{len(made)}i", *made)
        outside.sendmsg([b"made"], [(plain.SOL_SOCKET, plain.SCM_RIGHTS, sent)])


if __name__ == "__main__":
    main()
