"""The keeper of one command: fences it in, starts it, and ends all it started. Runs on its own.

It is started as a program by `sandbox.py`, with only the standard library, and not imported. It is
told what to do by a file, and then by a socket: a letter for each order, and its end is the order
to end everything. Whatever the command starts is its child at last, since it is their subreaper.
"""

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

RESTRICT_SELF = 446
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
CAPABILITIES_MAX = 63
CAPABILITY_VERSION = 0x20080522

NOT_EXECUTABLE, NOT_FOUND = 126, 127
FREEZE, THAW, TERMINATE = b"F", b"T", b"S"
STANDS, FROZEN, THAWED, FAILED = b"R", b"f", b"t", b"E"
DESCRIPTORS_MAX = 65536
STANDARD = 3

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def need(result: int) -> None:
    """Stop if the kernel refused.

    Raises:
        OSError: it did.
    """
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def limit(wanted: dict[str, int]) -> None:
    """Set the limits of this process and all it starts."""
    for name, value in wanted.items():
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (least, least))


def become(user: int | None, group: int | None) -> None:
    """Another user, or the same without any right of root."""
    if os.geteuid() == 0:
        for capability in range(CAPABILITIES_MAX + 1):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if user is not None and group is not None:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    none = (ctypes.c_uint32 * 6)()
    need(libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), none))


def fence(rules: int, filters: list[int]) -> None:
    """From here on: only what the rules allow, and no call that a filter refuses."""
    need(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    programs = [os.pread(one, os.fstat(one).st_size, 0) for one in filters]
    need(libc.syscall(RESTRICT_SELF, rules, 0))
    for steps in programs:
        loaded = Program(len(steps) // 8, steps)
        need(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0))


def run(told: dict[str, Any], failed: int, keeper: int) -> NoReturn:
    """In the child: fence it in and become the command."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(one, signal.SIG_DFL)
        os.fchdir(told["workspace"])
        become(told["user"], told["group"])
        os.chdir(told["cwd"])
        limit(told["limits"])
        need(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        if os.getppid() != keeper:
            os._exit(1)
        fence(told["rules"], told["filters"])
        os.dup2(failed, STANDARD, inheritable=False)
        os.closerange(STANDARD + 1, DESCRIPTORS_MAX)
    except OSError as error:
        os.write(failed, str(error).encode())
        os._exit(1)
    try:
        os.execvpe(  # noqa: S606 - no shell is wanted
            told["program"], [told["program"], *told["args"]], told["env"]
        )
    except OSError as error:
        os.write(2, f"{told['program']}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


def descendants() -> dict[int, str]:
    """Every process below this one that still lives, with the time it began, so that it is it."""
    parents: dict[int, tuple[int, str]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - numbers, thousands of them
        if name.isdecimal():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                state, parent, *rest = file.read().rpartition(b")")[2].split()
                if state not in {b"Z", b"X"}:
                    parents[int(name)] = (int(parent), rest[17].decode())
    below: dict[int, str] = {}
    for pid, (_, began) in parents.items():
        at = pid
        while at in parents and at != os.getpid():
            at = parents[at][0]
        if at == os.getpid() and pid != at:
            below[pid] = began
    return below


def send(signum: int, below: dict[int, str]) -> None:
    """Signal each of them, if it is still the same."""
    for pid, began in below.items():
        with suppress(OSError):
            held = os.pidfd_open(pid)
            try:
                with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                    if file.read().rpartition(b")")[2].split()[19].decode() == began:
                        signal.pidfd_send_signal(held, signum)
            finally:
                os.close(held)


def stop_all() -> dict[int, str]:
    """Stop all of them, also those that are being made meanwhile."""
    stopped: dict[int, str] = {}
    while new := {pid: at for pid, at in descendants().items() if stopped.get(pid) != at}:
        send(signal.SIGSTOP, new)
        stopped.update(new)
    return stopped


def _nothing(_signum: int, _frame: object) -> None:
    """Only wake up."""


class Keeper:
    """What happens around the command until nothing of it is left."""

    def __init__(self, leash: socket.socket, child: int) -> None:
        self._leash = leash
        self._child = child
        self._code: int | None = None
        self._began = False

    def keep(self, failed: int) -> NoReturn:
        """Wait for its end or for orders, then end everything; exits with its code."""
        waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        poll = select.poll()
        for one in (waking, failed, self._leash.fileno()):
            poll.register(one, select.POLLIN)
        try:
            self._watch(poll, waking, failed)
        finally:  # whatever happens, nothing of it stays
            self._end_all()
        if self._code is None:
            self._code = 128 + signal.SIGKILL
        os._exit(self._code)

    def _watch(self, poll: select.poll, waking: int, failed: int) -> None:
        """Until the command ends by itself, or is to be ended."""
        self._reap()
        while self._code is None:
            ready = {one for one, _ in poll.poll()}
            if waking in ready:
                os.read(waking, STANDARD)
                self._reap()
            if failed in ready:
                poll.unregister(failed)
                self._say_how_it_began(failed)
            if self._leash.fileno() in ready and not self._obey():
                break
        if self._code is not None and not self._began:
            self._say_how_it_began(failed)  # it was that quick

    def _say_how_it_began(self, failed: int) -> None:
        self._began = True
        said = os.read(failed, select.PIPE_BUF)
        self._tell(FAILED + said if said else STANDS)

    def _tell(self, said: bytes) -> None:
        with suppress(OSError):
            self._leash.send(said)

    def _obey(self) -> bool:
        """Do as told; whether to go on."""
        try:
            order = self._leash.recv(1)
        except OSError:  # it was let go with something unread
            return False
        if order == FREEZE:
            stop_all()
            self._tell(FROZEN)
        elif order == THAW:
            send(signal.SIGCONT, descendants())
            self._tell(THAWED)
        elif order == TERMINATE:
            with suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGTERM)
        return bool(order)

    def _reap(self) -> None:
        """Take in all that have ended; the command among them has the code that counts."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self._child:
                    code = os.waitstatus_to_exitcode(found[1])
                    self._code = code if code >= 0 else 128 - code

    def _end_all(self) -> None:
        while left := stop_all():
            send(signal.SIGKILL, left)
            self._reap()
        self._reap()


def main() -> NoReturn:
    """Read what to do, and do it."""
    with open(int(sys.argv[1]), "rb") as file:  # noqa: PTH123 - a descriptor
        told: dict[str, Any] = json.load(file)
    leash = socket.socket(fileno=told["leash"])
    need(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    reading, failed = os.pipe2(os.O_CLOEXEC)
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        run(told, failed, keeper)
    os.close(failed)
    nothing = os.open("/dev/null", os.O_RDWR)
    for one in range(STANDARD):
        os.dup2(nothing, one)
    Keeper(leash, child).keep(reading)


if __name__ == "__main__":
    main()
