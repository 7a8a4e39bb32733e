"""Attacks on a folder of the host that a sandbox may only read, and whose modes forbid nothing."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.sandbox.port import Command, Sandbox, SandboxSpec
from tests.attacks.arena import LIMITS, PREAMBLE, WAIT_S, Arena, Attack

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

INNER = "/opt/peritus/tool"

ATTACKS = [
    Attack("open-for-writing", "open its files in every way that writes", """
for how in (os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
    tries(lambda: os.open(given + '/data', how))
tries(lambda: os.open(given + '/new', os.O_CREAT | os.O_WRONLY))
tries(lambda: os.open(given, os.O_TMPFILE | os.O_RDWR))
"""),
    Attack("open-again", "open for writing what is open for reading", """
held = os.open(given + '/data', os.O_RDONLY)
tries(lambda: os.open(f'/proc/self/fd/{held}', os.O_RDWR))
tries(lambda: os.write(held, b'pwned'))
tries(lambda: os.ftruncate(held, 0))
tries(lambda: fcntl.fcntl(held, fcntl.F_SETFL, os.O_RDWR) or os.write(held, b'pwned'))
"""),
    Attack("map", "write to its pages", """
held = os.open(given + '/data', os.O_RDONLY)
tries(lambda: mmap.mmap(held, 4, mmap.MAP_SHARED, mmap.PROT_WRITE))
"""),
    Attack("names", "remove, rename and link what is in it", """
tries(lambda: os.unlink(given + '/data'))
tries(lambda: os.rename(given + '/data', given + '/moved'))
tries(lambda: os.rename(given + '/data', 'moved'))
tries(lambda: os.link(given + '/data', 'linked'))
tries(lambda: os.symlink('/etc/passwd', given + '/link'))
tries(lambda: os.mkdir(given + '/new'))
tries(lambda: os.mkfifo(given + '/pipe'))
tries(lambda: shutil.rmtree(given))
"""),
    Attack("attributes", "change what is known of it", """
tries(lambda: os.setxattr(given + '/data', 'user.pwned', b'x'))
tries(lambda: os.chmod(given + '/data', 0o600))
tries(lambda: os.utime(given + '/data', (1, 1)))
tries(lambda: os.chown(given + '/data', os.getuid() + 1, -1))
"""),
    Attack("other-ways", "get at it by other names of it", """
for root in ('/proc/self/root', '/proc/1/root', '/proc/self/cwd/../..', '//'):
    tries(lambda: write(root + given + '/data'))
held = os.open(given, os.O_RDONLY)
tries(lambda: os.open('data', os.O_WRONLY, dir_fd=held))
tries(lambda: os.open(f'/proc/self/fd/{held}/data', os.O_WRONLY))
os.symlink(given + '/data', 'through')
tries(lambda: write('through'))
"""),
    Attack("mounts", "make it writable, or put something in its place", """
target = given.encode()
tries(lambda: call(libc.mount, None, target, None, 0x20 | 0x1000, None))
tries(lambda: call(libc.mount, b'/workspace', target, None, 0x1000, None))
tries(lambda: call(libc.mount, b'tmpfs', target, b'tmpfs', 0, None))
tries(lambda: call(libc.umount2, target, 2))
tries(lambda: apart(lambda: call(libc.unshare, 0x10000000 | 0x20000)))
tries(lambda: syscall(442, 442, -100, target, 0, ctypes.create_string_buffer(32), 32))
"""),
    Attack("neighbours", "see what lies beside it", """
tries(lambda: read(given + '/../neighbour'))
tries(lambda: os.listdir(given + '/..'), 'neighbour')
tries(lambda: read(beside))
tries(lambda: os.open('../neighbour', os.O_RDONLY, dir_fd=os.open(given, os.O_RDONLY)))
"""),
]  # fmt: skip


@dataclass
class Given:
    """A folder anybody may change by its modes, seen by a sandbox of its own."""

    arena: Arena
    folder: Path
    sandbox: Sandbox

    def look(self) -> dict[str, tuple[object, ...]]:
        """All that could have been changed of it, and of what is beside it."""
        found: dict[str, tuple[object, ...]] = {}
        for path in (self.folder.parent, *sorted(self.folder.parent.rglob("*"))):
            at = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (at.st_mode, at.st_uid, at.st_nlink, at.st_mtime_ns, content)
        return found


@pytest.fixture
async def given(attacked: Arena) -> AsyncGenerator[Given]:
    folder = attacked.outside.base / "given" / "folder"
    folder.mkdir(parents=True)
    (folder / "data").write_text("as it was")
    neighbour = folder.parent / "neighbour"
    neighbour.write_text(attacked.outside.hidden)
    for path, mode in ((folder, 0o777), (folder / "data", 0o666), (neighbour, 0o666)):
        path.chmod(mode)
    spec = SandboxSpec(
        attacked.owner, attacked.room.workspace, limits=LIMITS, folders={INNER: folder}
    )
    sandbox = await attacked.backend.open(spec)
    try:
        yield Given(attacked, folder, sandbox)
    finally:
        await sandbox.close()
        for name in ("through", "linked", "moved"):
            (attacked.folder / name).unlink(missing_ok=True)
        for path in (folder / "data", neighbour):
            path.unlink()
        folder.rmdir()
        folder.parent.rmdir()


@pytest.mark.parametrize("attack", ATTACKS, indirect=True, ids=lambda one: one.name)
async def test_a_folder_that_may_only_be_read_is_as_it_was(given: Given, attack: Attack) -> None:
    before = given.look()
    known = (
        f"given, beside = {given.sandbox.where(INNER)!r}, {str(given.folder.parent)!r} + "
        "'/neighbour'\n"
    )
    script = PREAMBLE + known + attack.script + "\nprint('over')"
    told = json.dumps(given.arena.outside.told())
    async with asyncio.timeout(WAIT_S):
        outcome = await given.sandbox.exec(
            Command("python3", ("-c", script, told), timeout_s=WAIT_S)
        )
    lines = bytes(outcome.stdout.kept).decode().split("\n")
    assert "over" in lines, (attack.tries, lines, bytes(outcome.stderr.kept))
    assert any(line.startswith("denied") for line in lines), lines
    assert not [line for line in lines if line.startswith("GOT")], (attack.tries, lines)
    assert given.look() == before
    given.arena.unharmed()
