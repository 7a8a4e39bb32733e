"""What the self-test runs inside a sandbox: attacks that must fail. Not imported by anything.

It stands alone, because nothing of Peritus is visible in there, and prints one JSON object that
says of each check whether the sandbox held.
"""

import ctypes
import functools
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PROCESSES_MAX = 4  # bubblewrap's init, this, and what a shell leaves
SET_BY_PROGRAMS = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
AF_VSOCK = 40


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


def connect(family: int, address: tuple[str, int] | str) -> None:
    """Try to reach a listener of the host."""
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.settimeout(2)
        tried.connect(address)


def names_in(folder: str) -> list[str]:
    """What a folder lists."""
    return [entry.name for entry in Path(folder).iterdir()]


def status(name: str) -> str:
    """A line of what the kernel says of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[-1]
    return ""


def writable_knobs() -> list[str]:
    """Kernel settings that this process may write."""
    found: list[str] = []
    for folder, folders, files in os.walk("/proc"):
        if folder == "/proc":
            folders[:] = [name for name in folders if not name.isdigit() and "self" not in name]
        found += [name for name in files if os.access(Path(folder, name), os.W_OK)]
    return found


def main(expected: dict[str, str | int | bool]) -> dict[str, bool]:
    """Run every attack."""
    interfaces = [
        line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]
    ]
    inits = Path("/proc/1/environ").read_bytes().split(b"\0")
    unshare = ctypes.CDLL(None).unshare
    Path("proof").write_text("written inside")
    return {
        "network_unreachable": refused(
            lambda: connect(socket.AF_INET, ("127.0.0.1", int(expected["port"])))
        )
        and refused(lambda: connect(socket.AF_UNIX, "\0" + str(expected["abstract"])))
        and set(interfaces) <= {"lo"},
        "outside_unreadable": refused(lambda: Path(str(expected["canary"])).read_text()),
        "outside_unwritable": all(
            refused(functools.partial(write, path)) for path in ("/x", "/usr/x", "/etc/x", "/dev/x")
        ),
        "processes_hidden": sum(name.isdigit() for name in names_in("/proc")) <= PROCESSES_MAX,
        "environment_clean": set(os.environ) <= {"PATH", "HOME", "LANG", "TERM"} | SET_BY_PROGRAMS
        and all(not one or one.startswith(b"PATH=") for one in inits),
        "descriptors_closed": set(names_in("/proc/self/fd")) <= {"0", "1", "2", "3"},
        "no_capabilities": int(status("CapEff"), 16) == int(status("CapBnd"), 16) == 0,
        "no_new_privileges": status("NoNewPrivs") == "1",
        "namespaces_denied": unshare(CLONE_NEWUSER) != 0,
        "system_calls_filtered": not expected["seccomp"]
        or (status("Seccomp") == "2" and refused(lambda: socket.socket(AF_VSOCK))),
        "kernel_knobs_closed": not writable_knobs(),
        "state_hidden": not names_in(".peritus") and refused(lambda: write(".peritus/x")),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))))
