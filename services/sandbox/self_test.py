"""Whether a backend holds on this machine: attacks on a sandbox of its own. Not a proof."""

import asyncio
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files

from domain.sandbox import MIB, SandboxLimits
from services.sandbox.bait import Bait, accepts, make_bait
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.paths import STATE_FOLDER
from services.sandbox.port import (
    Backend,
    CapabilityReport,
    Command,
    Outcome,
    Owner,
    Sandbox,
    SandboxSpec,
)
from services.sandbox.shell_probe import SHELL_PROBE
from services.sandbox.workspace import Workspace
from services.worker.process import Process

PLACE = "self-test"
"""The place of the sandboxes that are attacked, which no worker serves."""

PROBE_TIMEOUT_S = 30.0
FROZEN_S = 0.05  # how long a frozen process is watched
THAWED_S = 5.0
KILLED = 137  # 128 + SIGKILL
NOT_FOUND = (126, 127)  # what a shell, and the backends, answer for a program that is not there

LIMITS = SandboxLimits(
    memory_bytes=96 * MIB,
    processes=48,
    open_files=64,
    file_bytes=MIB,
    tmp_bytes=4 * MIB,
    shared_memory_bytes=MIB,
)
"""Small, so that reaching them is quick."""

_PATH = re.compile(r"(?<![\w<])/[^\s'\",;:)]*")


async def self_test(
    backend: Backend,
    *,
    version: str,
    promises: Mapping[str, bool] | None = None,
    notes: Iterable[str] = (),
    lacks: frozenset[str] = frozenset(),
    lacks_apart: frozenset[str] = frozenset(),
    kernel: str = "",
) -> CapabilityReport:
    """Attack a sandbox of a backend, measure what it promises, and report both.

    For the `report` of backends: `version` and `notes` are theirs to say, `promises` those that
    are not measured here, and `lacks` the checks that this kind of backend cannot pass. Those are
    reported as not held; any other that fails means that there is no sandbox. `lacks_apart` are
    more of them, where commands are seen to have another kernel than `kernel`, this machine's.

    Raises:
        SandboxUnavailable: an attack got through, or no sandbox can be made.
    """
    with make_bait() as bait, Workspace(bait.root) as workspace:
        (bait.root / STATE_FOLDER / "canary").write_text(bait.token)
        spec = SandboxSpec(
            owner=Owner(PLACE, bait.token, "self-test", "self-test", bait.token),
            workspace=workspace,
            limits=LIMITS,
        )
        sandbox, egress = await _open(backend, spec)
        try:
            checks = await _attack(sandbox, bait)
            proof = bait.root / "proof"
            apart = bool(lacks_apart) and await _has_own_kernel(sandbox, kernel)
            checks["workspace_reached"] = proof.is_file()
            measured = {
                "own_uid": proof.is_file() and proof.stat().st_uid != os.geteuid(),
                "egress": egress and await _egress(sandbox),
                **await _limits(sandbox),
                "freeze": await _freezes(sandbox),
            }
        finally:
            await sandbox.close()
        checks["nothing_happened_outside"] = bait.untouched()
    excused = lacks | lacks_apart if apart else lacks
    failed = sorted(name for name, held in checks.items() if not held and name not in excused)
    if failed:
        message = f"{backend.name} {version} does not hold here: {', '.join(failed)}"
        raise SandboxUnavailable(message)
    return CapabilityReport(
        backend=backend.name,
        version=version,
        checks=dict(sorted(checks.items())),
        promises=dict(sorted({**(promises or {}), **measured}.items())),
        notes=tuple(without_paths(note) for note in notes),
    )


def without_paths(text: str) -> str:
    """A text that may be recorded: places of this host are nobody else's business."""
    return _PATH.sub("<path>", text)


async def _open(backend: Backend, spec: SandboxSpec) -> tuple[Sandbox, bool]:
    """A sandbox with a way out if it can have one; whether it has."""
    try:
        return await backend.open(replace(spec, egress=True)), True
    except SandboxUnavailable:
        return await backend.open(spec), False


async def _attack(sandbox: Sandbox, bait: Bait) -> dict[str, bool]:
    expected = bait.expected()
    outcome = await _probe(sandbox, "attacks", expected)
    if outcome.exit_code not in NOT_FOUND:
        return _said(outcome)
    names = ("canary", "outside", "pid", "token")
    command = Command(
        "/bin/sh",
        ("-c", SHELL_PROBE, "probe", *(expected[name] for name in names)),
        timeout_s=PROBE_TIMEOUT_S,
    )
    outcome = await sandbox.exec(command)
    lines = bytes(outcome.stdout.kept).decode("utf-8", "replace").split("\n")
    checks = {
        name: held == "1" for name, _, held in (line.partition(" ") for line in lines) if held
    }
    return checks or _said(outcome)


async def _limits(sandbox: Sandbox) -> dict[str, bool]:
    """Which limits are felt; none is claimed where no Python is there to reach for them."""
    expected = LIMITS.model_dump(mode="json")
    felt = await _probe(sandbox, "limits", expected)
    if felt.exit_code in NOT_FOUND:
        return {}
    memory = await _probe(sandbox, "memory", expected)
    return {
        **_said(felt),
        "memory_limit": _killed(memory)
        or (memory.exit_code == 0 and _said(memory)["memory_limit"]),
    }


def _killed(outcome: Outcome) -> bool:
    """Whether a process was killed for what it used, and not because it took too long."""
    return outcome.exit_code == KILLED and not outcome.timed_out


async def _has_own_kernel(sandbox: Sandbox, kernel: str) -> bool:
    """Whether what answers inside is another kernel than one by its release."""
    script = "IFS= read -r said </proc/version && printf '%s\\n' \"$said\""
    outcome = await sandbox.exec(Command("/bin/sh", ("-c", script), timeout_s=PROBE_TIMEOUT_S))
    said = bytes(outcome.stdout.kept).decode("utf-8", "replace").split()
    return outcome.exit_code == 0 and said[:2] == ["Linux", "version"] and kernel not in said


async def _egress(sandbox: Sandbox) -> bool:
    """Whether what knocks at the proxy's place inside is heard outside."""
    if sandbox.proxy is None:
        return False
    outcome = await _probe(sandbox, "egress", {})
    if outcome.exit_code in NOT_FOUND:
        return True  # there is a listener, and nobody to try it
    listener = sandbox.proxy.dup()
    listener.settimeout(0)
    with listener:
        return accepts(listener)


async def _freezes(sandbox: Sandbox) -> bool:
    """Whether a process that would answer does not while frozen, and does afterwards."""
    process = await sandbox.start(Command("cat"))
    try:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_first(process))
            async with sandbox.frozen() as frozen:
                if frozen:
                    await process.write(b"x")
                    await asyncio.wait((answer,), timeout=FROZEN_S)
                silent = not answer.done()
            if frozen:
                await asyncio.wait((answer,), timeout=THAWED_S)
            answered = answer.done() and answer.result() == b"x"
            answer.cancel()
            return frozen and silent and answered
    finally:
        await process.stop(0)


async def _first(process: Process) -> bytes:
    chunk = await anext(process.output(), None)
    return b"" if chunk is None else chunk.data


async def _probe(sandbox: Sandbox, job: str, expected: Mapping[str, object]) -> Outcome:
    probe = files("services.sandbox").joinpath("probe.py").read_text()
    arguments = ("-I", "-c", probe, job, json.dumps(expected))
    return await sandbox.exec(Command("python3", arguments, timeout_s=PROBE_TIMEOUT_S))


def _said(outcome: Outcome) -> dict[str, bool]:
    if outcome.exit_code == 0:
        with suppress(ValueError):
            checks: dict[str, bool] = json.loads(bytes(outcome.stdout.kept))
            return checks
    said = bytes(outcome.stderr.kept).decode("utf-8", "replace").strip()[-500:]
    message = f"the self-test ended with exit code {outcome.exit_code}: {said}"
    raise SandboxUnavailable(message)
