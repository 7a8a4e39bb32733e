"""What an expert may do in its sandbox, as a definition says it. Not what an operator allows."""

from typing import Literal

from domain.record import Record

MIB = 1024 * 1024
GIB = 1024 * MIB

Delivery = Literal["egress", "file", "env"]
"""How a secret reaches a tool, best first: swapped in by the proxy on its way to named hosts, as a
file in memory, as a variable. Only the first keeps the value out of the sandbox."""


EGRESS_ROWS_MAX = 100
"""How many rows of connections a call's outcome carries; the whole list is a blob then."""


class EgressRow(Record):
    """What a call's connections to one host came to: counted, not listed one by one."""

    host: str  # as it was asked for, cleaned: letters, digits, `.`, `-`, `:`
    port: int
    verdict: Literal["allowed", "denied", "failed"]
    reason: str = ""  # of a denial: a word for programs
    connections: int = 1
    bytes_out: int = 0
    bytes_in: int = 0


class SandboxLimits(Record):
    """What one sandbox may use; everything in it counts together where the kernel can count."""

    memory_bytes: int = 2 * GIB
    cpus: float = 2.0
    processes: int = 512
    open_files: int = 4096
    file_bytes: int = GIB  # the largest single file
    tmp_bytes: int = 256 * MIB  # of /tmp, in memory
    shared_memory_bytes: int = 64 * MIB
    workspace_bytes: int = 4 * GIB
    workspace_files: int = 500_000

    def at_most(self, other: "SandboxLimits") -> "SandboxLimits":
        """The smaller of the two in every respect."""
        return SandboxLimits(
            **{
                name: min(getattr(self, name), getattr(other, name))
                for name in type(self).model_fields
            }
        )


class SecretGrant(Record):
    """A secret an expert's tools may use: by name, how, and towards which hosts."""

    name: str
    deliver: Delivery = "env"
    hosts: tuple[str, ...] = ()  # of `egress`: the only ones the value is sent to


class SandboxSettings(Record):
    """The sandbox of an expert. None: what the operator's settings say."""

    limits: SandboxLimits | None = None
    image: str | None = None
    read_only: bool = False  # the workspace, for every tool
    workspace: Literal["shared", "isolated"] = "shared"
    """Of a delegate: the job's own workspace, or a copy that the caller merges."""
    allowed_domains: tuple[str, ...] = ()
    egress_bytes_max: int = GIB  # to and from all hosts, over the life of a sandbox
    egress_bytes_per_s: int = 32 * MIB
    secrets: tuple[SecretGrant, ...] = ()


def covers(pattern: str, host: str) -> bool:
    """Whether a pattern allows a host, or all of another pattern: `*.a.b` is every name below a.b.

    It does not allow `a.b` itself.
    """
    pattern, host = pattern.lower(), host.lower()
    return pattern == host or (pattern.startswith("*.") and host.endswith(pattern[1:]))
