"""An image without a registry: some Debian packages of this machine. Not an image of ours."""

import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

PACKAGES = (
    *("bash", "ca-certificates", "coreutils", "curl", "dash", "diffutils", "findutils", "git"),
    *("grep", "gzip", "procps", "python3", "sed", "tar", "util-linux"),
)
LEFT_OUT = (
    *("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/"),
    *("/usr/share/lintian/", "/usr/lib/python3/dist-packages/", "/etc/shadow", "/etc/gshadow"),
)
LINKS = ("bin", "lib", "lib64", "sbin")
FOLDERS = ("dev", "etc", "proc", "run", "sys", "usr", "usr/sbin", "var", "workspace")
TEXTS = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
}
GENERATED = ("/etc/ld.so.cache", "/etc/ssl/certs/ca-certificates.crt")


def missing() -> str | None:
    """Why there can be no such image here."""
    if not Path("/usr/bin/dpkg-query").exists():
        return "the test image is made of Debian packages, and this is not Debian"
    return None


def write_root(target: Path, *more: str) -> None:
    """Write the root file system of the image, with more packages, as a tar archive."""
    with tarfile.open(target, "w") as archive:
        for name in FOLDERS:
            archive.addfile(_entry(name, tarfile.DIRTYPE, 0o755))
        archive.addfile(_entry("tmp", tarfile.DIRTYPE, 0o1777))
        for name in LINKS:
            link = _entry(name, tarfile.SYMTYPE, 0o777)
            link.linkname = f"usr/{name}"
            archive.addfile(link)
        for name, text in TEXTS.items():
            file = _entry(name, tarfile.REGTYPE, 0o644)
            file.size = len(text)
            archive.addfile(file, io.BytesIO(text.encode()))
        for path in sorted(_files(more)):
            archive.add(path, arcname=str(path).lstrip("/"), recursive=False)


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _files(more: Iterable[str]) -> set[Path]:
    """What the packages have installed, each by the path that no link leads to."""
    found: set[Path] = set()
    for name in [*_said("dpkg-query", "--listfiles", *_with_dependencies(more)), *GENERATED]:
        path = Path(name)
        if path.is_symlink() or path.is_file():
            found.add(path.parent.resolve() / path.name)
    found.update(Path("/etc/alternatives").iterdir())
    ours = {f"/{name}" for name in (*LINKS, *TEXTS)}
    return {path for path in found if str(path) not in ours and not str(path).startswith(LEFT_OUT)}


def _with_dependencies(more: Iterable[str]) -> Iterable[str]:
    wanted = _said(
        *("apt-cache", "depends", "--recurse", "--installed", "--no-recommends", "--no-suggests"),
        *("--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", *PACKAGES, *more),
    )
    names = {line.split(":")[0] for line in wanted if line[:1].isalnum()}
    return sorted(name for name in names if not name.startswith(("perl", "libperl")))


def _said(*command: str) -> list[str]:
    """The lines a program prints; it may complain of packages that are not installed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()
