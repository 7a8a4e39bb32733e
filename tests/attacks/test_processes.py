"""Attacks by commands on the kernel and on processes: of the host, of us, of the sandbox itself.

C10: whatever they start is gone when the call is over.
"""

import asyncio
import json

import pytest

from services.sandbox.failures import SandboxUnavailable
from tests.attacks.arena import RUN, Arena, Attack
from tests.contract.sandbox_backends import processes_with

OTHER = RUN._replace(run="other")

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

KERNEL = [
    Attack(
        "signal-host",
        "signal a process of the host by its number",
        """
for pid, number in ((told['pid'], signal.SIGTERM), (told['our_pid'], signal.SIGSTOP)):
    tries(lambda: os.kill(pid, number) if pid > 1000 else os.kill(0, 99))
""",
    ),
    Attack(
        "trace-host",
        "attach to a process of the host",
        """
tries(lambda: call(libc.ptrace, 16, told['pid'], 0, 0))
tries(lambda: call(libc.ptrace, 0x4206, told['our_pid'], 0, 0))
""",
    ),
    Attack(
        "trace-init",
        "stop the sandbox's own first process, so that nothing ends it",
        """
tries(lambda: call(libc.ptrace, 16, 1, 0, 0))
tries(lambda: call(libc.ptrace, 0x4206, os.getppid(), 0, 0))
""",
    ),
    Attack(
        "trace-me",
        "have ourselves traced, to run calls the filter has passed already",
        """
tries(lambda: call(libc.ptrace, 0, 0, 0, 0))
""",
    ),
    Attack(
        "read-memory",
        "read the memory of another process",
        """
tries(lambda: syscall(310, 270, os.getppid(), 0, 0, 0, 0, 0))
tries(lambda: syscall(310, 270, told['pid'], 0, 0, 0, 0, 0))
tries(lambda: open('/proc/1/mem', 'rb').read(1))
tries(lambda: open(f"/proc/{told['pid']}/mem", 'rb').read(1))
""",
    ),
    Attack(
        "take-descriptor",
        "copy an open file out of another process",
        """
fd = -1
with contextlib.suppress(OSError):
    fd = os.pidfd_open(os.getppid())
tries(lambda: syscall(438, 438, fd, 0, 0))
tries(lambda: syscall(312, 272, os.getpid(), os.getppid(), 0, 0, 0))
""",
    ),
    Attack(
        "host-process-files",
        "look at a process of the host in /proc",
        """
for name in ('environ', 'cmdline', 'maps'):
    tries(lambda: read(f"/proc/{told['our_pid']}/{name}") if told['our_pid'] > 1000 else read('/x'))
tries(lambda: os.listdir(f"/proc/{told['pid']}/root/") if told['pid'] > 1000 else read('/x'))
""",
    ),
    Attack(
        "all-processes",
        "find a process of the host by its command line",
        """
def seen():
    found = b''
    for entry in os.listdir('/proc'):
        with contextlib.suppress(OSError):
            found += read(f'/proc/{entry}/cmdline') if entry.isdigit() else b''
    return found
tries(seen, told['abstract'][::-1])
""",
    ),
    Attack(
        "renice-host",
        "change priority, limits and processors of a process of the host",
        """
who = told['pid'] if told['pid'] > 1000 else 999999
tries(lambda: os.setpriority(os.PRIO_PROCESS, who, 19))
tries(lambda: os.sched_setaffinity(who, {0}))
tries(lambda: resource.prlimit(who, resource.RLIMIT_NOFILE, (3, 3)))
""",
    ),
    Attack(
        "new-user-namespace",
        "become root in a namespace of our own",
        """
tries(lambda: call(libc.unshare, 0x10000000))
tries(lambda: syscall(56, 220, 0x10000000 | 17, 0, 0, 0, 0))
tries(lambda: subprocess.run(['unshare', '-Ur', 'id'], check=True, capture_output=True).stdout)
""",
    ),
    Attack(
        "new-namespaces",
        "make a namespace of every kind",
        """
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000):
    tries(lambda: call(libc.unshare, flag))
""",
    ),
    Attack(
        "clone3",
        "ask for namespaces by the call whose flags no filter can see",
        """
block = (ctypes.c_uint64 * 11)(0x10000000, *[0] * 10)
tries(lambda: syscall(435, 435, ctypes.byref(block), 88))
""",
    ),
    Attack(
        "enter-namespace",
        "enter the namespaces of the first process",
        """
for kind in ('mnt', 'net', 'user', 'pid'):
    tries(lambda: call(libc.setns, os.open(f'/proc/1/ns/{kind}', os.O_RDONLY), 0))
""",
    ),
    Attack(
        "mount",
        "mount, by the old calls and the new",
        """
tries(lambda: call(libc.mount, b'none', b'/tmp', b'tmpfs', 0, None))
tries(lambda: call(libc.mount, b'/', b'/tmp', None, 4096, None))
tries(lambda: call(libc.umount2, b'/workspace/.peritus', 2))
tries(lambda: syscall(428, 428, -100, b'/', 1))
tries(lambda: syscall(430, 430, b'tmpfs', 0))
""",
    ),
    Attack(
        "chroot",
        "take another root",
        """
tries(lambda: os.chroot('/tmp'))
tries(lambda: syscall(155, 41, b'.', b'.'))
""",
    ),
    Attack(
        "open-by-handle",
        "open files by number, past every folder",
        """
handle = (ctypes.c_uint32 * 8)(8, 1, 2, 0, 0, 0, 0, 0)
tries(lambda: syscall(304, 265, os.open('.', os.O_RDONLY), ctypes.byref(handle), 0))
""",
    ),
    Attack(
        "foreign-architecture",
        "make the calls of 32-bit programs, whose numbers differ",
        """
def foreign():
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes([0xb8, 0x14, 0, 0, 0, 0xcd, 0x80, 0xc3]))
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
tries(lambda: apart(foreign) if x86 else read('/x'))
""",
    ),
    Attack(
        "x32",
        "make calls by the x32 numbers",
        """
for number in (101, 165, 39):
    def odd():
        call(libc.syscall, 0x40000000 + number, 0, 0, 0, 0)
    tries(lambda: apart(odd) if x86 else read('/x'))
""",
    ),
    Attack(
        "io-uring",
        "do by a ring what no filter sees",
        """
block = (ctypes.c_char * 120)()
tries(lambda: syscall(425, 425, 1, ctypes.byref(block)))
""",
    ),
    Attack(
        "bpf-and-perf",
        "load programs into the kernel, or watch it",
        """
block = (ctypes.c_char * 128)()
tries(lambda: syscall(321, 280, 0, ctypes.byref(block), 128))
tries(lambda: syscall(298, 241, ctypes.byref(block), 0, -1, -1, 0))
tries(lambda: syscall(323, 282, 1))
""",
    ),
    Attack(
        "keyrings",
        "read and keep keys in the kernel, shared by everybody of a user",
        """
tries(lambda: syscall(250, 219, 0, -4, 1, 0, 0))
tries(lambda: syscall(248, 217, b'user', b'x', b'y', 1, -4))
""",
    ),
    Attack(
        "modules-and-kexec",
        "replace the kernel",
        """
tries(lambda: syscall(175, 105, 0, 0, b''))
tries(lambda: syscall(246, 104, 0, 0, 0, 0))
tries(lambda: syscall(169, 142, 0xfee1dead, 672274793, 0x1234567, 0))
""",
    ),
    Attack(
        "clock",
        "set the clock of the machine",
        """
tries(lambda: time.clock_settime(time.CLOCK_REALTIME, 0))
tries(lambda: syscall(159, 171, ctypes.byref((ctypes.c_long * 30)(1))))
""",
    ),
    Attack(
        "kernel-knobs",
        "write settings of the kernel",
        """
for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sysrq-trigger',
             '/proc/sys/vm/drop_caches', '/proc/sys/net/ipv4/ip_forward',
             '/sys/kernel/uevent_helper'):
    tries(lambda: os.close(os.open(path, os.O_WRONLY)))
""",
    ),
    Attack(
        "cgroups",
        "leave the control group, or run a program at its end",
        """
for folder in ('/sys/fs/cgroup', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/unified'):
    for name in ('cgroup.procs', 'release_agent', 'notify_on_release'):
        tries(lambda: write(f'{folder}/{name}', '0'))
tries(lambda: os.mkdir('/sys/fs/cgroup/memory/mine'))
""",
    ),
    Attack(
        "devices",
        "open the disks, the memory and the hypervisor of the machine",
        """
for name in ('mem', 'kmem', 'port', 'kvm', 'vda', 'sda', 'loop0', 'fuse', 'kmsg',
             'net/tun', 'vsock'):
    tries(lambda: os.close(os.open(f'/dev/{name}', os.O_RDWR)))
""",
    ),
    Attack(
        "make-device",
        "make a device of our own, or a whiteout",
        """
def device(path, major, minor):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    return read(path)[:1]
tries(lambda: device('disk', 254, 0))
tries(lambda: device('mem', 1, 1))
""",
    ),
    Attack(
        "terminal",
        "type into the terminal that peritus runs in",
        """
for fd in (0, 1, 2):
    tries(lambda: fcntl.ioctl(fd, termios.TIOCSTI, b'x'))
tries(lambda: fcntl.ioctl(os.open('/dev/tty', os.O_RDWR), termios.TIOCSTI, b'x'))
def own():
    first, second = os.openpty()
    return fcntl.ioctl(second, termios.TIOCSTI, b'x')
tries(own)
""",
    ),
    Attack(
        "inherited-descriptors",
        "use a file that was left open",
        """
found = []
for fd in range(3, 1024):
    with contextlib.suppress(OSError):
        found.append((fd, os.fstat(fd)))
tries(lambda: found[0] if found else read('/x'))
""",
    ),
    Attack(
        "regain-rights",
        "get rights of root back",
        """
tries(lambda: os.setuid(0) if os.getuid() else os.setgroups([0, 4]))
tries(lambda: os.setgid(0) if os.getgid() else call(libc.mount, None, b'/', None, 32, None))
tries(lambda: subprocess.run(['su', '-c', 'id'], check=True, capture_output=True, stdin=-3).stdout)
shutil.copy('/bin/sh', 'mine')
os.chmod('mine', 0o755)
with contextlib.suppress(OSError):
    os.chmod('mine', 0o6755)
before = os.geteuid()
line = ['./mine', '-pc', '[ $(id -u) = 0 ]']
tries(lambda: subprocess.run(line, check=True) if before else read('/x'))
os.unlink('mine')
""",
    ),
    Attack(
        "limits",
        "raise our own limits",
        """
for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
    tries(lambda: resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
""",
    ),
    Attack(
        "shared-memory",
        "meet other programs of the machine in shared memory",
        """
tries(lambda: read(f"/dev/shm/{told['abstract']}"))
tries(lambda: call(libc.shmget, 0x7e1, 1, 0))
""",
    ),
]


@pytest.mark.parametrize("attack", KERNEL, indirect=True, ids=lambda one: one.name)
async def test_attack_is_denied_and_nothing_happens_outside(
    attacked: Arena, attack: Attack
) -> None:
    await attacked.held(attack)


# What is not denied but has to end: limits, floods, and processes that do not want to.


async def still_works(attacked: Arena) -> None:
    """The sandbox is good for the next call.

    With an engine, what cannot be killed alone in time is ended with the whole sandbox: then the
    next sandbox is.
    """
    try:
        said = await attacked.shell("echo fine")
    except SandboxUnavailable:
        if attacked.backend.name != "docker":
            raise
        await attacked.anew()
        said = await attacked.shell("echo fine")
    assert said.output == "fine\n"
    attacked.unharmed()


async def test_kill_everybody(attacked: Arena) -> None:
    """Signals every process it can see: only its own are gone, and the sandbox goes on."""
    await attacked.shell("kill -9 -1; exit 3")
    await still_works(attacked)


async def test_fork_bomb(attacked: Arena) -> None:
    """Doubles without end: it meets the limit, and all of it is gone when the call is over."""
    if not attacked.promises["process_limit"]:
        pytest.skip(f"{attacked.name} does not promise process_limit, and its report says so")
    word = attacked.outside.token
    said = await attacked.call(
        "exec", shell=f": bomb-{word}; b() {{ b | b & }}; b; sleep 100", timeout=1500
    )
    assert said.answer.get("timedOut") or said.failed
    assert processes_with(f"bomb-{word}") == []
    await still_works(attacked)


async def test_memory_bomb(attacked: Arena) -> None:
    """Takes memory in several processes at once: it is killed, and nobody else."""
    if not attacked.promises["memory_limit"]:
        pytest.skip(f"{attacked.name} does not promise memory_limit, and its report says so")
    said = await attacked.python(
        "ready, full = os.pipe()\n"
        "made = []\n"
        "for _ in range(6):\n"
        "    made.append(os.fork())\n"
        "    if not made[-1]:\n"
        "        kept = b'x' * 120_000_000\n"
        "        os.write(full, b'.'); os.close(full); signal.pause()\n"
        "os.close(full)\n"
        "there = 0\n"
        "while there < 6 and os.read(ready, 1): there += 1\n"
        "for one in made: os.kill(one, signal.SIGKILL)\n"
        "print('GOT memory' if there == 6 else 'killed')\n"
    )
    assert "GOT" not in said.output
    assert said.failed or "killed" in said.output
    await still_works(attacked)


async def test_daemon_that_leaves(attacked: Arena) -> None:
    """C10: forks twice, takes a session of its own, ignores signals, and closes every pipe."""
    word = f"daemon-{attacked.outside.token}"
    said = await attacked.python(
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        for one in range(1, 32):\n"
        "            with contextlib.suppress(OSError, ValueError):\n"
        "                signal.signal(one, signal.SIG_IGN)\n"
        "        os.closerange(0, 64)\n"
        f"        os.execvp('sh', ['sh', '-c', ': {word}; while :; do sleep 1; done'])\n"
        "    os._exit(0)\n"
    )
    assert "over" in said.output
    assert processes_with(word) == []
    await still_works(attacked)


async def test_command_that_will_not_end(attacked: Arena) -> None:
    """C10: spins with every signal ignored: it ends soon after its time."""
    word = f"spins-{attacked.outside.token}"
    began = asyncio.get_running_loop().time()
    said = await attacked.call(
        "exec", shell=f"trap '' TERM INT HUP; : {word}; while :; do :; done", timeout=300
    )
    assert said.answer["timedOut"]
    assert asyncio.get_running_loop().time() - began < 15
    assert processes_with(word) == []
    await still_works(attacked)


async def test_endless_output(attacked: Arena) -> None:
    """Prints without end on one line: what a model reads is bounded, and so is what is kept."""
    said = await attacked.call("exec", shell="yes | tr -d '\\n' | head -c 60000000", timeout=20_000)
    assert len(said.output) < 40_000
    assert said.answer["truncated"]
    assert said.result.full_output is not None
    assert len(said.result.full_output) < 20_000_000
    await still_works(attacked)


async def test_output_that_is_no_text(attacked: Arena) -> None:
    """Prints escape sequences, broken characters and null bytes: the answer is still JSON."""
    said = await attacked.shell(r"printf '\033]0;owned\007\033[2J\377\376\000\303end'")
    assert said.output.endswith("end")
    assert "\x1b" in said.output  # kept as it is, and escaped in the JSON a model reads
    (part,) = said.result.content
    assert "\x1b" not in str(part)
    json.dumps(said.answer).encode()
    await still_works(attacked)


async def test_too_many_files_open(attacked: Arena) -> None:
    """Opens files without end: the limit of a process is met."""
    said = await attacked.python(
        "kept = []\n"
        "def fill():\n"
        "    while len(kept) < 2000: kept.append(os.dup(0))\n"
        "    return 'all of them'\n"
        "tries(fill)\n"
        "for one in kept: os.close(one)\n"
    )
    assert "denied OSError" in said.output
    await still_works(attacked)


async def test_process_of_another_run(attacked: Arena) -> None:
    """Names the handle of a process that another run of the job has started."""
    started = await attacked.call("startProcess", shell="sleep 1000")
    handle = started.answer["handle"]
    other = (await attacked.call("listProcesses", OTHER)).answer
    assert handle not in json.dumps(other)
    for tool, more in (("readProcess", {}), ("writeProcess", {"text": "x"}), ("stopProcess", {})):
        said = await attacked.call(tool, OTHER, handle=handle, **more)
        assert (said.failed, said.error) == (True, "no_process")
    assert (await attacked.call("listProcesses")).answer["processes"][0]["running"]
    await attacked.call("stopProcess", handle=handle)
    await still_works(attacked)


async def test_nothing_is_left_of_all_this(attacked: Arena) -> None:
    """C10: of every attack of this module no process remains, whatever it was called."""
    await still_works(attacked)
    assert processes_with(attacked.outside.token) == []
