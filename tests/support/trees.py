"""Folders made from data and read back without the code under test. Not a test."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eventlog.memory.server import MemoryServer
from eventlog.port import Blobs


@dataclass(frozen=True)
class File:
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Link:
    target: bytes


@dataclass(frozen=True)
class Folder:
    holds: "Mapping[bytes, File | Link | Folder]"
    mode: int = 0o755


Holds = Mapping[bytes, File | Link | Folder]


def plant(root: Path, holds: Holds) -> None:
    """Make what is described, modes last."""
    for name, item in holds.items():
        path = root / os.fsdecode(name)
        if isinstance(item, Link):
            path.symlink_to(os.fsdecode(item.target))
        elif isinstance(item, File):
            path.write_bytes(item.content)
            path.chmod(item.mode)
        else:
            path.mkdir()
            plant(path, item.holds)
            path.chmod(item.mode)


def picture(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below a folder but the state folder: kind, mode, content."""
    found: dict[bytes, tuple[object, ...]] = {}
    pending = [root]
    while pending:
        for path in pending.pop().iterdir():
            name = os.fsencode(path.relative_to(root))
            mode = path.lstat().st_mode
            if name == b".peritus":
                continue
            if stat.S_ISLNK(mode):
                found[name] = ("link", os.readlink(path))  # noqa: PTH115 - as it is, not tidied
            elif stat.S_ISDIR(mode):
                found[name] = ("folder", stat.S_IMODE(mode))
                pending.append(path)
            elif stat.S_ISREG(mode):
                found[name] = ("file", stat.S_IMODE(mode), path.read_bytes())
            else:
                found[name] = ("special",)
    return found


def blobs_of(server: MemoryServer) -> Blobs:
    """The blobs of a new process of that deployment."""
    return server.ports(server.client()).blobs


def memory_server() -> MemoryServer:
    """A deployment whose timers nobody needs."""
    return MemoryServer(now_ms=lambda: 0)
