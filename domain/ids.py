"""Names of runs and the ids derived from them. Not an id generator: fresh ids are an argument."""

import base64
import hashlib
import re
from typing import NamedTuple

from domain.errors import Rejected

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may be a subject token: tenant, job, run, call and timer names."""

DERIVED_BYTES = 16


class RunRef(NamedTuple):
    """Where a run lives: tenant, job and run, each one subject token."""

    tenant: str
    job: str
    run: str


def check_token(what: str, value: str) -> str:
    """Return `value` if it can be a subject token.

    Raises:
        Rejected: it is empty, longer than 64 characters, or has other characters.
    """
    if TOKEN.fullmatch(value) is None:
        raise Rejected(
            "bad_id", f"{what} {value!r} must be 1 to 64 letters, digits, '-' or '_' characters"
        )
    return value


def derive_id(*parts: str) -> str:
    """An id that is a pure function of its parts: 26 lower-case base-32 characters."""
    raw = hashlib.sha256("\x00".join(parts).encode()).digest()[:DERIVED_BYTES]
    return base64.b32encode(raw).decode().rstrip("=").lower()


def child_run_id(parent: str, call: str) -> str:
    """The run id of the delegate that a call starts; the same call always names the same child."""
    return derive_id("child", parent, call)


def call_id(step: int, index: int) -> str:
    """The id of a tool call inside its run: the step, and the place in its reply."""
    return f"c{step}-{index}"


def step_of(call: str) -> int:
    """The step of a call, by its id; 0 for an id that was not made by `call_id`."""
    step = call.removeprefix("c").partition("-")[0]
    return int(step) if step.isdecimal() else 0


def idempotency_key(run: str, call: str) -> str:
    """The key a tool receives for a call: the same over every attempt, never over two runs."""
    return derive_id("call", run, call)


def jitter(*parts: str) -> float:
    """A number in [0, 1) that is a pure function of its parts: spreads retries."""
    raw = hashlib.sha256("\x00".join(parts).encode()).digest()[:8]
    return int.from_bytes(raw, "big") / 2**64
