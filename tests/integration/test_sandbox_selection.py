"""The self-test and the choice of a backend, with real backends. Not the backends themselves."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from domain.record import canonical
from services.sandbox.bait import CANARY
from services.sandbox.bubblewrap.backend import BubblewrapBackend
from services.sandbox.docker.backend import DockerBackend
from services.sandbox.docker.settings import DockerSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.landlock.backend import LACKS, LandlockBackend
from services.sandbox.landlock.rules import ABI_NEEDED, abi
from services.sandbox.port import (
    Backend,
    CapabilityReport,
    Command,
    OnBytes,
    Outcome,
    Sandbox,
    SandboxSpec,
)
from services.sandbox.select import choose_backend, survey
from services.sandbox.self_test import self_test, without_paths

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

WAIT_S = 60
NOWHERE = "unix:///nowhere/docker.sock"
ALLOW_EVERYTHING = b"\x06\x00\x00\x00\x00\x00\xff\x7f"  # a filter of one instruction


@pytest.fixture
def state() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="peritus-state-") as made:
        yield Path(made)


def no_engine() -> Backend:
    return DockerBackend(DockerSettings(image="none", host=NOWHERE))


class Altered:
    """Bubblewrap, but every command is changed on its way in."""

    def __init__(self, inner: Backend, change: Callable[[Command], Command]) -> None:
        self._inner = inner
        self._change = change
        self.name = inner.name
        self.reap = inner.reap
        self.closed = False

    async def report(self) -> CapabilityReport:
        return await self_test(self, version="altered")

    async def open(self, spec: SandboxSpec) -> Sandbox:
        return AlteredSandbox(await self._inner.open(spec), self._change)

    async def close(self) -> None:
        self.closed = True
        await self._inner.close()


class AlteredSandbox:
    def __init__(self, inner: Sandbox, change: Callable[[Command], Command]) -> None:
        self._inner = inner
        self._change = change
        self.proxy = inner.proxy
        self.frozen = inner.frozen
        self.where = inner.where
        self.close = inner.close
        self.start = inner.start

    async def exec(
        self,
        command: Command,
        *,
        on_stdout: OnBytes | None = None,
        on_stderr: OnBytes | None = None,
    ) -> Outcome:
        return await self._inner.exec(
            self._change(command), on_stdout=on_stdout, on_stderr=on_stderr
        )


def without_python(command: Command) -> Command:
    return replace(command, program="no-python-here") if command.program == "python3" else command


def with_our_environment(command: Command) -> Command:
    return replace(command, env={**command.env, CANARY: os.environ[CANARY]})


async def test_bubblewrap_holds_and_its_report_may_be_recorded(state: Path) -> None:
    backend = BubblewrapBackend(state)
    try:
        async with asyncio.timeout(WAIT_S):
            report = await backend.report()
    finally:
        await backend.close()
    assert len(report.checks) >= 20
    assert all(report.checks.values())
    assert report.promises["egress"]
    assert report.promises["own_root"]
    stored = canonical(report)
    assert len(stored) < 4096
    assert b"/tmp" not in stored
    assert str(state).encode() not in stored
    assert CANARY not in os.environ


async def test_sandbox_whose_filter_lets_everything_through_is_refused_by_name(
    state: Path,
) -> None:
    backend = BubblewrapBackend(state)
    backend.seccomp = ALLOW_EVERYTHING
    try:
        with pytest.raises(SandboxUnavailable, match="system_calls_filtered"):
            await backend.report()
    finally:
        await backend.close()


async def test_sandbox_that_hands_on_our_environment_is_refused_by_name(state: Path) -> None:
    """C15."""
    backend = Altered(BubblewrapBackend(state), with_our_environment)
    try:
        with pytest.raises(SandboxUnavailable, match="does not hold here: environment_clean"):
            await backend.report()
    finally:
        await backend.close()


async def test_image_without_python_is_attacked_by_a_shell(state: Path) -> None:
    backend = Altered(BubblewrapBackend(state), without_python)
    try:
        report = await backend.report()
    finally:
        await backend.close()
    assert {"host_files_hidden", "no_new_privileges", "state_hidden"} <= set(report.checks)
    assert all(report.checks.values())
    assert "memory_limit" not in report.promises  # nobody was there to reach for it


async def test_shell_finds_a_leaking_environment_too(state: Path) -> None:
    """C15: so that the variant for small images is not blind."""
    backend = Altered(
        BubblewrapBackend(state), lambda command: with_our_environment(without_python(command))
    )
    try:
        with pytest.raises(SandboxUnavailable, match="does not hold here: environment_clean"):
            await backend.report()
    finally:
        await backend.close()


async def test_auto_without_an_engine_is_bubblewrap_and_says_why(state: Path) -> None:
    backend, report = await choose_backend(
        "auto", {"docker": no_engine, "bubblewrap": lambda: BubblewrapBackend(state)}
    )
    await backend.close()
    assert report.backend == backend.name == "bubblewrap"
    (note,) = [note for note in report.notes if note.startswith("not used: docker: ")]
    assert "/nowhere" not in note


async def test_what_is_asked_for_by_name_is_never_replaced(state: Path) -> None:
    """Not by something better either: nothing else is even made."""
    made: list[str] = []

    def other() -> Backend:
        made.append("other")
        return BubblewrapBackend(state)

    everything: Mapping[str, Callable[[], Backend]] = {
        "docker": no_engine,
        "bubblewrap": other,
        "landlock": other,
    }
    with pytest.raises(SandboxUnavailable, match="docker: "):
        await choose_backend("docker", everything)
    assert made == []


async def test_auto_refuses_with_every_reason_and_never_takes_the_degraded_tier(
    state: Path,
) -> None:
    broken = Altered(BubblewrapBackend(state), with_our_environment)
    made: list[str] = []

    def degraded() -> Backend:
        made.append("landlock")
        return LandlockBackend()

    with pytest.raises(SandboxUnavailable) as caught:
        await choose_backend(
            "auto", {"docker": no_engine, "bubblewrap": lambda: broken, "landlock": degraded}
        )
    assert "docker: " in str(caught.value)
    assert "environment_clean" in str(caught.value)
    assert made == []
    assert broken.closed  # what was tried and does not hold is not left open


async def test_backend_that_is_not_installed_is_a_reason_like_any_other() -> None:
    with pytest.raises(SandboxUnavailable, match="bubblewrap: not part of this installation"):
        await choose_backend("auto", {})


@pytest.mark.skipif(abi() < ABI_NEEDED, reason=f"Landlock here has ABI {abi()}")
async def test_degraded_tier_holds_by_explicit_wish_and_says_what_it_lacks() -> None:
    backend, report = await choose_backend("landlock", {"landlock": LandlockBackend})
    await backend.close()
    assert {name for name, held in report.checks.items() if not held} == LACKS
    assert report.notes[0].startswith("degraded: ")
    assert not report.promises["egress"]
    assert not report.promises["memory_limit"]
    assert not report.promises["own_root"]


async def test_survey_has_a_report_or_a_reason_for_each(state: Path) -> None:
    found = await survey({"docker": no_engine, "bubblewrap": lambda: BubblewrapBackend(state)})
    assert isinstance(found["docker"], str)
    assert isinstance(found["bubblewrap"], CapabilityReport)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("no /var/run/docker.sock here", "no <path> here"),
        ("at unix:///run/x.sock: gone", "at unix:<path>: gone"),
        ("'/a b' and 1/2 or bwrap/0.11", "'<path> b' and 1/2 or bwrap/0.11"),
    ],
)
def test_places_of_the_host_are_left_out_of_what_is_recorded(text: str, cleaned: str) -> None:
    assert without_paths(text) == cleaned
