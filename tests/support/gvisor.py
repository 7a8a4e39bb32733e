"""gVisor as a runtime of an engine for tests, from its Debian package. Not how it is used."""

import json
import os

from tests.support import debian, docker_engine

RUNTIME = "runsc"
ARGUMENTS = ("--platform=ptrace", "--network=none", "--ignore-cgroups")
"""It runs anywhere so: no virtualization, no interface of its own, and control groups of any kind.

What the last of them costs are the limits of memory, processors and processes.
"""


def missing() -> str | None:
    """Why it cannot be had here; asking may fetch it."""
    if os.geteuid() != 0:
        return "gVisor needs an engine of its own, and that root"
    if (why := docker_engine.missing()) is not None:
        return why
    if debian.program("runsc", "runsc") is None:
        return "runsc is not there: apt-get install --no-install-recommends runsc"
    return None


def engine_of_session() -> docker_engine.Running:
    """A shared engine that knows the runtime."""
    program = debian.program("runsc", "runsc")
    runtime = {"path": str(program), "runtimeArgs": list(ARGUMENTS)}
    return docker_engine.engine_of_session("gvisor", json.dumps({"runtimes": {RUNTIME: runtime}}))
