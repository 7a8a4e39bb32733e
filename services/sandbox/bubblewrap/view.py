"""What a command sees: the options that build its root from nothing. Not how it is run.

The root is empty and things are added; nothing of the host's root is there to be taken away. The
workspace comes after every other mount, so no mount point of ours lies in a folder an agent can
write, where a planted link would make bubblewrap follow it (CVE-2026-87766). The one exception is
the cover over the state folder, see `_workspace`.
"""

import functools
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.sandbox import SandboxLimits
from services.sandbox.environment import SYSTEM_PATH, whole_env
from services.sandbox.paths import MOUNT, STATE_FOLDER
from services.sandbox.port import FILES_FOLDER, SECRETS_FOLDER

SANDBOX_UID = 1000
PASSWD = (
    f"agent:x:{SANDBOX_UID}:{SANDBOX_UID}::{MOUNT}:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
)
GROUP = f"agent:x:{SANDBOX_UID}:\nnogroup:x:65534:\n"
HOSTS = "127.0.0.1 localhost sandbox\n::1 localhost\n"

# Places inside the sandbox, each made fresh for one command.
TMP = "/tmp"  # noqa: S108
SHARED_MEMORY = "/dev/shm"  # noqa: S108

ROOT_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC_FILES = (
    *("ssl/certs", "ssl/openssl.cnf", "pki/ca-trust/extracted", "pki/tls/certs"),
    *("alternatives", "ld.so.cache", "mime.types"),
)

KERNEL_KNOBS = ("sys", "sysrq-trigger", "fs", "acpi", "scsi", "mtrr", "pressure")
"""What host root may write below /proc by owning it, without any capability: made read-only."""

PYTHON_FOLDERS = ("bin", "lib", "lib64", "include", "share")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open files that bubblewrap is handed; it closes each before the command starts."""

    workspace: int
    passwd: int
    group: int
    hosts: int
    seccomp: int | None
    status: int

    def all(self) -> tuple[int, ...]:
        """Those to leave open over the exec of bubblewrap."""
        seccomp = () if self.seccomp is None else (self.seccomp,)
        return (self.workspace, self.passwd, self.group, self.hosts, self.status, *seccomp)


@functools.cache
def python_folders(user: int) -> tuple[Path, ...]:
    """The folders of this Python that lie outside /usr and that `user` can reach."""
    prefix = Path(sys.base_prefix)
    if prefix.is_relative_to("/usr") or prefix == Path("/"):
        return ()
    folders = tuple(prefix / name for name in PYTHON_FOLDERS if (prefix / name).is_dir())
    return folders if all(reachable(folder, user) for folder in folders) else ()


def reachable(path: Path, user: int) -> bool:
    """Whether `user` may pass every folder on the way to `path`; groups are left out of account."""
    return user == 0 or all(
        found.st_mode & 0o001 or (found.st_uid == user and found.st_mode & 0o100)
        for found in (folder.stat() for folder in (path, *path.parents))
    )


@dataclass(frozen=True, slots=True)
class View:
    """What one command is to see, beside the system."""

    user: int  # who runs it, as the host knows them
    limits: SandboxLimits
    env: Mapping[str, str]  # secrets and all
    cwd: str
    read_only: bool
    files: Mapping[str, int]  # a plain name, and the open file with its content
    secret_files: Mapping[str, int]
    folders: Mapping[str, int]  # a place inside, and the open folder that is seen there

    def descriptors(self) -> tuple[int, ...]:
        """The open files of it, to leave open over the exec of bubblewrap."""
        return (*self.files.values(), *self.secret_files.values(), *self.folders.values())


def options(descriptors: Descriptors, view: View, *, disable_userns: bool) -> list[str]:
    """The whole option vector for one command. It holds secrets: not for a command line."""
    python = python_folders(view.user)
    return [
        *_isolation(disable_userns=disable_userns),
        *_system(descriptors),
        *_python(python),
        *_scratch(view.limits),
        *_given(view),
        *_environment(view.env, python),
        *(("--seccomp", str(descriptors.seccomp)) if descriptors.seccomp is not None else ()),
        *("--json-status-fd", str(descriptors.status)),
        *_workspace(descriptors, read_only=view.read_only),
        *("--remount-ro", "/"),
        *("--chdir", view.cwd),
    ]


def _isolation(*, disable_userns: bool) -> list[str]:
    return [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
        "--unshare-cgroup-try",  # and the network is the one it is started in
        *(("--disable-userns",) if disable_userns else ()),
        *("--die-with-parent", "--new-session", "--hostname", "sandbox"),
        *("--uid", str(SANDBOX_UID), "--gid", str(SANDBOX_UID), "--cap-drop", "ALL"),
    ]


def _system(descriptors: Descriptors) -> list[str]:
    vector = ["--ro-bind", "/usr", "/usr"]
    for name in ROOT_FOLDERS:
        place = Path("/", name)
        if place.is_symlink():
            vector += ["--symlink", str(place.readlink()).lstrip("/"), str(place)]
        elif place.is_dir():
            vector += ["--ro-bind", str(place), str(place)]
    vector += ["--proc", "/proc", "--dev", "/dev"]
    for name in KERNEL_KNOBS:
        vector += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    vector += ["--dir", "/run", "--dir", "/etc", "--dir", "/var", "--symlink", TMP, f"/var{TMP}"]
    for name in ETC_FILES:
        vector += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for descriptor, name in (
        (descriptors.passwd, "passwd"),
        (descriptors.group, "group"),
        (descriptors.hosts, "hosts"),
    ):
        vector += ["--perms", "0444", "--file", str(descriptor), f"/etc/{name}"]
    return vector


def _python(folders: tuple[Path, ...]) -> list[str]:
    return [part for folder in folders for part in ("--ro-bind", str(folder), str(folder))]


def _given(view: View) -> list[str]:
    """What is ours in the root, which is read-only in the end; secrets for their reader alone."""
    parts: list[str] = []
    for folder, mode, given in (
        (FILES_FOLDER, "0444", view.files),
        (SECRETS_FOLDER, "0400", view.secret_files),
    ):
        if given:
            parts += ["--dir", folder]
        for name, descriptor in given.items():
            parts += ["--perms", mode, "--file", str(descriptor), f"{folder}/{name}"]
    for place, descriptor in view.folders.items():
        parts += ["--ro-bind-fd", str(descriptor), place]
    return parts


def _scratch(limits: SandboxLimits) -> list[str]:
    return [
        *("--perms", "1777", "--size", str(limits.tmp_bytes), "--tmpfs", TMP),
        *("--perms", "1777", "--size", str(limits.shared_memory_bytes), "--tmpfs", SHARED_MEMORY),
        *("--remount-ro", "/dev"),
    ]


def _environment(env: Mapping[str, str], python: tuple[Path, ...]) -> list[str]:
    own_bin = "".join(f"{folder}:" for folder in python if folder.name == "bin")
    whole = whole_env(env, path=own_bin + SYSTEM_PATH)
    return [
        "--clearenv",
        *(part for name, value in whole.items() for part in ("--setenv", name, value)),
    ]


def _workspace(descriptors: Descriptors, *, read_only: bool) -> list[str]:
    """The workspace by descriptor, and an empty cover over the state folder in it.

    The cover is the only mount below a folder that agents write to. It cannot be led astray: the
    folder is real when the command is started (`state_folder_is_real`), every sandbox that could
    change that has it as a mount point, and the kernel refuses to rename or remove a mount point
    from the namespace it is mounted in.
    """
    state = f"{MOUNT}/{STATE_FOLDER}"
    return [
        *("--bind-fd", str(descriptors.workspace), MOUNT),
        *("--perms", "0555", "--size", "4096", "--tmpfs", state, "--remount-ro", state),
        *(("--remount-ro", MOUNT) if read_only else ()),
    ]


def state_folder_is_real(workspace: int) -> bool:
    """Whether the state folder of a workspace is a folder of its own, and no link elsewhere."""
    try:
        found = os.stat(STATE_FOLDER, dir_fd=workspace, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode)
