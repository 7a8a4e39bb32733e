"""What one container is: hardened, without a network, and gone when we are. Not what runs in it.

Its first command is a keeper that holds the container open as long as our connection to it lasts:
when this process dies, however it dies, the container ends and is removed (C10). The keeper is of
another user than the commands, so that none of them can end it.
"""

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from domain.sandbox import MIB, SandboxLimits
from services.sandbox.docker.script import SHELL
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.paths import MOUNT, STATE_FOLDER
from services.sandbox.port import FILES_FOLDER, SECRETS_FOLDER, Owner, SandboxSpec

KEEPING = 'N="\n"; IFS= read -r s && eval "$s" && echo ok && IFS= read -r s'
"""Obeys one line, then waits for the end of its input."""

KEEPERS = (65534, 65533)
"""Who the keeper is: the first of them that is not the user of the commands."""

OWN_PROCESSES = 3
"""Ours in every container: its init, the keeper, and the shell that waits."""

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = (
    *("/proc/bus", "/proc/fs", "/proc/irq", "/proc/mtrr", "/proc/pressure", "/proc/sys"),
    "/proc/sysrq-trigger",
)
"""Engines differ in what they close by themselves: older ones leave some of these open."""

CPU_MIN = 0.01
PAGE = 65536  # the largest of any machine
FILES_BYTES_AHEAD = 4 * MIB
"""How much the files of a sandbox may be whose container is made before they are known."""

TMP = "/tmp"  # noqa: S108 - inside
HARMLESS = "nosuid,nodev"
LABEL = "peritus."
LABELLED = ("place", "epoch", "tenant", "job", "run")
STARTED = "started_ms"


class Place(NamedTuple):
    """What the engine says of where a container will be."""

    machine: str
    cpus: int
    image: str  # the id of the image
    volumes: tuple[str, ...]  # folders the image wants to be volumes


class Shape(NamedTuple):
    """What of a sandbox its container depends on. `workspace` None: one is put in later."""

    limits: SandboxLimits
    user: tuple[int, int]
    keeper: int  # who keeps the container open
    files_bytes: int
    secrets_bytes: int
    workspace: dict[str, Any] | None
    folders: tuple[dict[str, Any], ...] = ()


def shape_of(spec: SandboxSpec) -> Shape:
    """The container of a sandbox; commands run as the owner of its workspace.

    Where that is root, without capabilities.
    """
    user = spec.workspace.owner()
    return Shape(
        limits=spec.limits,
        user=user,
        keeper=KEEPERS[0] if user[0] != KEEPERS[0] else KEEPERS[1],
        files_bytes=sum(map(len, spec.files.values())) + PAGE * (1 + len(spec.files)),
        secrets_bytes=PAGE * (1 + len(spec.secret_files)),
        workspace=_workspace(spec),
        folders=tuple(
            _mount(outer, inner, read_only=True) for inner, outer in spec.folders.items()
        ),
    )


def shape_ahead(limits: SandboxLimits) -> Shape:
    """The container of a sandbox that is not known yet."""
    return Shape(limits, (0, 0), KEEPERS[0], FILES_BYTES_AHEAD, PAGE, None)


def labels(owner: Owner, started_ms: int) -> dict[str, str]:
    """Whose container it is, for the reaper and for people (C10)."""
    found = {f"{LABEL}{name}": str(getattr(owner, name)) for name in LABELLED}
    return {**found, f"{LABEL}{STARTED}": str(started_ms)}


def configuration(labelled: Mapping[str, str]) -> dict[str, Any]:
    """What the container is beside its limits, for the SDK."""
    return {
        "command": [],
        "entrypoint": [SHELL, "-c", KEEPING],
        "hostname": "sandbox",
        "stdin_open": True,
        "labels": dict(labelled),
        "working_dir": "/",
        "healthcheck": {"test": ["NONE"]},
        "stop_signal": "SIGKILL",
    }


def host_settings(
    shape: Shape, settings: DockerSettings, place: Place, profile: str
) -> dict[str, Any]:
    """The limits and walls of the container, for the SDK."""
    limits = shape.limits
    found: dict[str, Any] = {
        "network_mode": "none",
        "ipc_mode": "private",
        "cgroupns": "private",
        "init": True,
        "auto_remove": True,
        "read_only": True,
        "privileged": False,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true", f"seccomp={profile}"],
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "nano_cpus": int(min(max(limits.cpus, CPU_MIN), place.cpus) * 1e9),
        "pids_limit": limits.processes + OWN_PROCESSES,
        "shm_size": limits.shared_memory_bytes,
        "oom_score_adj": 500,
        "ulimits": _ulimits(limits),
        "tmpfs": _in_memory(shape, place),
        "mounts": [] if shape.workspace is None else [shape.workspace, *shape.folders],
        "log_config": {"Type": "none", "Config": {}},
        # Else the engine copies in what the host's resolver is.
        "dns": ["127.0.0.1"],
        "dns_search": ["."],
    }
    if settings.runtime is not None:
        found["runtime"] = settings.runtime
    return found


def with_paths(host_config: dict[str, Any]) -> dict[str, Any]:
    """The SDK's form of the settings, with what it has no words for: what of /proc is closed."""
    return {**host_config, "MaskedPaths": list(MASKED), "ReadonlyPaths": list(READ_ONLY)}


def _ulimits(limits: SandboxLimits) -> list[dict[str, Any]]:
    # More than the engine has itself it cannot give; it has what we have, as a rule.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = limits.open_files
    files = files if hard == resource.RLIM_INFINITY else min(files, hard)
    values = {"nofile": files, "fsize": limits.file_bytes, "core": 0}
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in values.items()]


def _in_memory(shape: Shape, place: Place) -> dict[str, str]:
    user, group = shape.user
    keeper = shape.keeper
    tmp = f"{HARMLESS},size={shape.limits.tmp_bytes}"
    closed = f"{HARMLESS},noexec,ro,size=4096,mode=0555"
    return {
        **dict.fromkeys(place.volumes, f"{tmp},mode=0755,uid={user},gid={group}"),
        TMP: f"{tmp},mode=1777",
        FILES_FOLDER: f"{HARMLESS},size={shape.files_bytes},mode=0755,uid={keeper},gid={keeper}",
        SECRETS_FOLDER: (
            f"{HARMLESS},noexec,size={shape.secrets_bytes},mode=0700,uid={user},gid={group}"
        ),
        MOUNT if shape.workspace is None else f"{MOUNT}/{STATE_FOLDER}": closed,
    }


def _workspace(spec: SandboxSpec) -> dict[str, Any]:
    """A mount by the API's own form: a folder that is missing is an error, and not made."""
    source = Path(f"/proc/self/fd/{spec.workspace.fileno()}").readlink()
    return _mount(source, MOUNT, read_only=spec.read_only)


def _mount(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }
