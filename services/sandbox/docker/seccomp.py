"""The system calls a container may not make, as a profile for Docker. Not the rules: see the JSON.

The rules are those of the BPF filter in `services/sandbox/seccomp.py`, by name. Only the engine's
own architecture is listed, so a call through any other kills the process: `int 0x80` would walk
around every rule.
"""

import functools
import json
from importlib.resources import files

from services.sandbox.failures import SandboxUnavailable

ARCHITECTURES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "amd64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "arm64": "SCMP_ARCH_AARCH64",
}


@functools.cache
def profile(machine: str) -> str:
    """The profile for an engine's machine (`info()["Architecture"]`), as JSON.

    Raises:
        SandboxUnavailable: the system calls of that machine are not known.
    """
    architecture = ARCHITECTURES.get(machine)
    if architecture is None:
        message = f"there is no system call filter for engines on {machine}"
        raise SandboxUnavailable(message)
    rules = json.loads(files("services.sandbox.docker").joinpath("seccomp.json").read_text())
    return json.dumps({**rules, "architectures": [architecture]}, separators=(",", ":"))
