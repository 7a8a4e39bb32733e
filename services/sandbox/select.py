"""Which backend is used: what was asked for, or the best that holds. Never a silent fallback."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from services.sandbox.failures import SandboxUnavailable
from services.sandbox.port import Backend, CapabilityReport
from services.sandbox.self_test import without_paths

Wanted = Literal["auto", "docker", "bubblewrap", "landlock"]

AUTO = ("docker", "bubblewrap")
"""What `auto` tries, in order. The degraded tier is not in it: it has to be asked for by name."""

REASON_CHARS_MAX = 300

_ADVICE = (
    "nothing is run without a sandbox; `peritus sandbox doctor` says more. Where neither can be "
    "had, the degraded tier is there by explicit wish: PERITUS_SANDBOX=landlock"
)


async def choose_backend(
    wanted: Wanted, make: Mapping[str, Callable[[], Backend]]
) -> tuple[Backend, CapabilityReport]:
    """The backend to use, attacked and found to hold, with its report.

    `make` has the backends there are, by name; only those that are tried are made. The notes of the
    report say why a better one was passed over. Whoever gets the backend closes it.

    Raises:
        SandboxUnavailable: the one that is wanted does not hold, or with `auto` none does; the
            message has the reason for each.
    """
    reasons: list[str] = []
    for name in AUTO if wanted == "auto" else (wanted,):
        try:
            backend, report = await _tried(name, make)
        except SandboxUnavailable as error:
            reasons.append(f"{name}: {error}")
        else:
            passed_over = tuple(f"not used: {_short(reason)}" for reason in reasons)
            return backend, report.model_copy(update={"notes": (*report.notes, *passed_over)})
    message = f"no sandbox ({'; '.join(reasons)}); {_ADVICE}"
    raise SandboxUnavailable(message)


async def survey(
    make: Mapping[str, Callable[[], Backend]],
) -> dict[str, CapabilityReport | str]:
    """What every backend is worth here: its report, or why it cannot be used."""
    found: dict[str, CapabilityReport | str] = {}
    for name in make:
        try:
            backend, found[name] = await _tried(name, make)
        except SandboxUnavailable as error:
            found[name] = str(error)
        else:
            await backend.close()
    return found


async def _tried(
    name: str, make: Mapping[str, Callable[[], Backend]]
) -> tuple[Backend, CapabilityReport]:
    """A backend that holds.

    Raises:
        SandboxUnavailable: it does not; nothing of it is left.
    """
    if name not in make:
        message = "not part of this installation"
        raise SandboxUnavailable(message)
    backend = make[name]()
    try:
        return backend, await backend.report()
    except BaseException:
        await backend.close()
        raise


def _short(reason: str) -> str:
    """A reason for the record: one line of it, without places of this host."""
    return without_paths(re.sub(r"\s+", " ", reason))[:REASON_CHARS_MAX]
