"""Programs of Debian packages for tests, unpacked and not installed. Not images of them."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

DOWNLOAD_S = 120.0


@functools.cache
def program(package: str, name: str) -> Path | None:
    """A program: this machine's, else that of a package from its package index; None if neither."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    folder = Path(tempfile.gettempdir(), f"peritus-test-{package}-{os.geteuid()}")
    unpacked = folder / "usr" / "bin" / name
    if not unpacked.exists() and not _unpack(package, folder):
        return None
    return unpacked if unpacked.exists() else None


def _unpack(package: str, folder: Path) -> bool:
    """Whether the package could be had; it takes its place as a whole."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="peritus-deb-") as fresh:
        try:
            _say(fresh, "apt-get", "download", "-qq", package)
            for archive in Path(fresh).glob("*.deb"):
                _say(fresh, "dpkg-deb", "-x", str(archive), "root")
            Path(fresh, "root").chmod(0o755)
            if not folder.exists():
                Path(fresh, "root").rename(folder)
        except (subprocess.SubprocessError, OSError):
            return folder.exists()
    return True


def _say(folder: str, *words: str) -> None:
    subprocess.run(
        words,
        cwd=folder,
        check=True,
        timeout=DOWNLOAD_S,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
