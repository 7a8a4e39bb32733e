"""Which sandboxes this process can make, from its settings. Not how they are made."""

from collections.abc import Callable, Mapping
from pathlib import Path

from domain.sandbox import SandboxLimits
from peritus.settings import Settings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.policy import OperatorPolicy
from services.sandbox.port import Backend


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
            "snapshots": settings.snapshots,
        }
    )


def backends(settings: Settings, state: Path) -> Mapping[str, Callable[[], Backend]]:
    """A way to make each backend; nothing of it is imported before."""

    def docker() -> Backend:
        if settings.sandbox_image is None:
            message = "PERITUS_SANDBOX_IMAGE is not set"
            raise SandboxUnavailable(message)
        from services.sandbox.docker import DockerBackend, DockerSettings  # noqa: PLC0415

        return DockerBackend(
            DockerSettings(
                image=settings.sandbox_image,
                images=settings.sandbox_images,
                pull=settings.sandbox_pull,
                runtime=settings.sandbox_runtime,
            )
        )

    def bubblewrap() -> Backend:
        from services.sandbox.bubblewrap import BubblewrapBackend  # noqa: PLC0415

        return BubblewrapBackend(state)

    def landlock() -> Backend:
        from services.sandbox.landlock import LandlockBackend  # noqa: PLC0415

        return LandlockBackend(state)

    return {"docker": docker, "bubblewrap": bubblewrap, "landlock": landlock}
