"""What the self-test runs inside a sandbox: attacks that must fail. Not imported by anything.

It stands alone, because nothing of Peritus is visible in there. It prints one JSON object: of each
check whether the sandbox held, or of each limit whether it was felt. An attack that gets through
does no harm: it reads what the self-test planted, and writes nothing but empty files.
"""

import contextlib
import ctypes
import functools
import json
import mmap
import os
import platform
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
PROCESSES_MAX = 8  # an init or two, this, and what a shell leaves
PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS = 21, 39
SECCOMP_MODE_FILTER = 2
EATERS = 2
PTRACE_SEIZE = 0x4206
CAPABILITY_VERSION = 0x20080522
AF_ALG, AF_VSOCK, AF_PACKET = 38, 40, 17
DESCRIPTORS_TRIED = 4096
PROXY_PORT = 3128
WAIT_S = 2.0

# process_vm_readv, keyctl, bpf, perf_event_open, userfaultfd, open_by_handle_at, setns,
# mount, kexec_load; then io_uring_setup, which has the same number everywhere.
CALLS = {
    "x86_64": (310, 250, 321, 298, 323, 304, 308, 165, 246, 425),
    "aarch64": (270, 219, 280, 241, 282, 265, 268, 40, 104, 425),
}
# mov eax, 20 (getpid of 32-bit programs); int 0x80; ret
FOREIGN_CALL = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"

libc = ctypes.CDLL(None, use_errno=True)


def refused(attack: Callable[[], object]) -> bool:
    """Whether the kernel says no."""
    try:
        attack()
    except OSError:
        return True
    return False


def write(path: str) -> None:
    """Try to leave a file somewhere."""
    Path(path).write_text("x")


def reach(family: int, address: tuple[str, int] | str, kind: int = socket.SOCK_STREAM) -> None:
    """Try to connect somewhere. Of datagrams none is sent: it only asks for a route."""
    with socket.socket(family, kind) as tried:
        tried.settimeout(WAIT_S)
        tried.connect(address)


def denied(number: int) -> bool:
    """Whether a system call is filtered, or this kernel does not have it."""
    return libc.syscall(number, 0, 0, 0, 0, 0, 0) < 0 and os.strerror(ctypes.get_errno()) in {
        "Operation not permitted",
        "Function not implemented",
    }


def foreign_call_dies() -> bool:
    """Whether a call through another architecture's gate, which a filter may not see, kills."""
    if platform.machine() != "x86_64":
        return True
    child = os.fork()
    if child == 0:
        signal.alarm(2)
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(FOREIGN_CALL)
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def capabilities() -> int:
    """The rights of root that this process holds, could take up or could hand on."""
    head = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()
    return -1 if libc.capget(head, sets) != 0 else functools.reduce(int.__or__, sets)


def visible_processes() -> int:
    """How many processes this one can see."""
    try:
        return sum(entry.name.isdigit() for entry in Path("/proc").iterdir())
    except OSError:
        return 0


def environments() -> bytes:
    """The variables of this process and, as far as it may look, of all others."""
    found = b"\0".join(os.environb.values())
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += entry.read_bytes()
    return found


def open_descriptors() -> list[int]:
    """What is open beside the three standard streams."""
    return [
        one for one in range(3, DESCRIPTORS_TRIED) if not refused(functools.partial(os.fstat, one))
    ]


def writable_knobs() -> list[str]:
    """Kernel settings that this process may open for writing."""
    found: list[str] = []
    for top in ("/proc", "/sys"):
        for folder, folders, files in os.walk(top):
            if folder == "/proc":
                folders[:] = [one for one in folders if not one.isdigit() and "self" not in one]
            for name in files:
                path = Path(folder, name)
                if (
                    path.is_file()
                    and os.access(path, os.W_OK)
                    and _plain(path)
                    and not refused(functools.partial(_touch, path))
                ):
                    found.append(str(path))
    return found


def _plain(path: Path) -> bool:
    """Whether it is a file: an engine puts a null device over what it hides."""
    return not refused(path.stat) and path.is_file()


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def interfaces() -> set[str]:
    """The network interfaces this process can see."""
    try:
        lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    except OSError:
        return set()
    return {line.split(":")[0].strip() for line in lines}


def network(expected: dict[str, str]) -> dict[str, bool]:
    """Attacks on the host and the world by way of sockets."""
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
    inet, inet6, unix = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
    return {
        "host_unreachable": refused(lambda: reach(inet, ("127.0.0.1", int(expected["port"])))),
        "host_sockets_hidden": refused(lambda: reach(unix, "\0" + expected["abstract"]))
        and refused(lambda: reach(unix, expected["socket"])),
        "no_route": refused(lambda: reach(inet, ("192.0.2.1", 9), socket.SOCK_DGRAM))
        and refused(lambda: reach(inet6, ("2001:db8::1", 9), socket.SOCK_DGRAM))
        and interfaces() <= {"lo"},
        "no_names": refused(lambda: socket.getaddrinfo("example.com", 443)),
        "no_other_sockets": all(
            refused(functools.partial(socket.socket, family, socket.SOCK_SEQPACKET))
            and refused(functools.partial(socket.socket, family, socket.SOCK_STREAM))
            for family in (AF_ALG, AF_VSOCK)
        )
        and refused(lambda: socket.socket(AF_PACKET, socket.SOCK_RAW))
        and refused(lambda: socket.socket(inet, socket.SOCK_RAW, socket.IPPROTO_TCP)),
    }


def attacks(expected: dict[str, str]) -> dict[str, bool]:
    """Every attack, and whether the sandbox held."""
    write("proof")
    new = libc.unshare
    neighbour = int(expected["pid"])
    return {
        "host_files_hidden": refused(lambda: Path(expected["canary"]).read_text())
        and refused(lambda: os.link(expected["canary"], "linked")),
        "outside_unwritable": all(
            refused(functools.partial(write, path))
            for path in ("/x", "/usr/x", "/etc/x", "/dev/x", expected["outside"] + "/x")
        ),
        "state_hidden": refused(lambda: Path(".peritus/canary").read_text())
        and refused(lambda: write(".peritus/x")),
        **network(expected),
        "processes_hidden": visible_processes() <= PROCESSES_MAX,
        "processes_out_of_reach": neighbour == 0 or refused(lambda: os.kill(neighbour, 0)),
        "tracing_denied": libc.ptrace(PTRACE_SEIZE, os.getppid(), 0, 0) < 0,
        "environment_clean": expected["token"].encode() not in environments(),
        "descriptors_closed": not open_descriptors(),
        "no_capabilities": capabilities() == 0,
        "no_new_privileges": libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
        "namespaces_denied": new(CLONE_NEWUSER) != 0 and new(CLONE_NEWNS | CLONE_NEWNET) != 0,
        "mounts_denied": libc.mount(b"none", b"/workspace", b"tmpfs", 0, None) != 0,
        "system_calls_filtered": libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER
        and all(denied(number) for number in CALLS.get(platform.machine(), ())),
        "foreign_calls_denied": foreign_call_dies(),
        "kernel_knobs_closed": not writable_knobs(),
    }


def file_limit(size: int) -> bool:
    """Whether one file stops growing."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    held = refused(lambda: Path("large").write_bytes(bytes(2 * size)))
    Path("large").unlink(missing_ok=True)
    return held


def tmp_limit(size: int, at_once: int) -> bool:
    """Whether the folder for temporary files fills up."""
    with tempfile.TemporaryDirectory() as folder:
        return refused(
            lambda: [
                Path(folder, str(number)).write_bytes(bytes(at_once))
                for number in range(2 * size // at_once)
            ]
        )


def open_files_limit(number: int) -> bool:
    """Whether opening files comes to an end."""
    opened: list[int] = []
    held = refused(lambda: opened.extend(os.dup(0) for _ in range(number + 1)))
    for descriptor in opened:
        os.close(descriptor)
    return held


def children(number: int, work: Callable[[], object]) -> int:
    """How many children can be there at the same time, each after its work."""
    ready, told = os.pipe()
    hold, release = os.pipe()
    made = 0
    for _ in range(number):
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            os.close(release)
            with contextlib.suppress(MemoryError):
                kept = work()  # must last until the parent lets go
                os.write(told, b"." if kept is not None else b"")
                os.close(told)
                os.read(hold, 1)
            os._exit(0)
        made += 1
    os.close(told)
    os.close(hold)
    alive = 0
    while alive < made and os.read(ready, 1):
        alive += 1
    os.close(release)
    for _ in range(made):
        os.wait()
    return alive


def loopback() -> bool:
    """Whether there is a network to talk to oneself by."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            reach(socket.AF_INET, listener.getsockname())
    except OSError:
        return False
    return True


def limits(expected: dict[str, int]) -> dict[str, bool]:
    """Which limits are felt; of memory, see `memory`. And whether root and network are its own."""
    return {
        "own_root": str(Path.cwd()) == "/workspace",
        "own_network": loopback(),
        "file_limit": file_limit(expected["file_bytes"]),
        "tmp_limit": tmp_limit(expected["tmp_bytes"], expected["file_bytes"]),
        "open_files_limit": open_files_limit(expected["open_files"]),
        "process_limit": children(expected["processes"] + 1, int) <= expected["processes"],
    }


def memory(expected: dict[str, int]) -> dict[str, bool]:
    """Whether two processes together feel the limit. It may well not live to tell."""
    half = expected["memory_bytes"] * 3 // 4
    return {"memory_limit": children(EATERS, lambda: b"\1" * half) < EATERS}


def egress(_expected: dict[str, int]) -> dict[str, bool]:
    """Knock at the place of the proxy; whoever listens there says whether it was heard."""
    return {"egress": not refused(lambda: reach(socket.AF_INET, ("127.0.0.1", PROXY_PORT)))}


if __name__ == "__main__":
    jobs: dict[str, Callable[[Any], dict[str, bool]]] = {
        "attacks": attacks,
        "limits": limits,
        "memory": memory,
        "egress": egress,
    }
    sys.stdout.write(json.dumps(jobs[sys.argv[1]](json.loads(sys.argv[2]))))
