"""Whether the sandbox holds on this machine: a few attacks at start. Not a proof."""

import json
import os
import secrets
import socket
import tempfile
from importlib.resources import files
from pathlib import Path

from domain.record import Record
from services.sandbox.bubblewrap import HOW_TO_INSTALL, Bubblewrap, Command
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.paths import STATE_FOLDER
from services.sandbox.workspace import Workspace

PROBE_TIMEOUT_S = 30.0


class CapabilityReport(Record):
    """What a sandbox service can promise, for the log and for `doctor`."""

    backend: str
    version: str
    checks: dict[str, bool]
    seccomp: bool
    nested_namespaces_disabled: bool
    runs_as_host_root: bool


async def self_test(bubblewrap: Bubblewrap) -> CapabilityReport:
    """Attack a sandbox from inside and report what held.

    Raises:
        SandboxUnavailable: a check failed, or no sandbox could be built at all.
    """
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder, socket.socket() as listener:
        abstract = secrets.token_hex(8)
        with socket.socket(socket.AF_UNIX) as neighbour:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            neighbour.bind(f"\0{abstract}")
            neighbour.listen()
            checks = await _attack(
                bubblewrap, Path(folder), port=listener.getsockname()[1], abstract=abstract
            )
    failed = sorted(name for name, held in checks.items() if not held)
    if failed:
        message = (
            f"bubblewrap {bubblewrap.version} does not hold here: {', '.join(failed)}; "
            f"{HOW_TO_INSTALL}"
        )
        raise SandboxUnavailable(message)
    return CapabilityReport(
        backend="bubblewrap",
        version=bubblewrap.version,
        checks=checks,
        seccomp=bubblewrap.seccomp is not None,
        nested_namespaces_disabled=bubblewrap.disable_userns,
        runs_as_host_root=os.geteuid() == 0,
    )


async def _attack(
    bubblewrap: Bubblewrap, folder: Path, *, port: int, abstract: str
) -> dict[str, bool]:
    canary = folder / "canary"
    canary.write_text("only the host may read this")
    root = folder / "workspace"
    root.mkdir()
    with Workspace(root) as workspace:
        (root / STATE_FOLDER / "canary").write_text("only the host may read this")
        expected = {
            "port": port,
            "abstract": abstract,
            "canary": str(canary),
            "seccomp": bubblewrap.seccomp is not None,
        }
        probe = files("services.sandbox").joinpath("probe.py").read_text()
        outcome = await bubblewrap.exec(
            workspace,
            Command(
                program="python3",
                args=("-I", "-c", probe, json.dumps(expected)),
                timeout_s=PROBE_TIMEOUT_S,
            ),
        )
    if outcome.exit_code != 0:
        said = bytes(outcome.stderr.kept).decode("utf-8", "replace").strip()
        message = f"the self-test ended with exit code {outcome.exit_code}: {said}"
        raise SandboxUnavailable(message)
    proof = root / "proof"
    checks: dict[str, bool] = json.loads(bytes(outcome.stdout.kept))
    return {**checks, "writes_reach_workspace": proof.is_file() and proof.stat().st_size > 0}
