"""The names of streams and subjects, by prefix. Not their configuration: `streams` has that."""

import re
from dataclasses import dataclass

from domain.errors import Rejected
from domain.ids import RunRef
from domain.rate import Scope
from eventlog.newest import Entry
from eventlog.port import Lane

RUN = re.compile(r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}")
"""Tenant, job and run as they may stand in a subject: no wildcard, no space."""

PATTERN = re.compile(r"([A-Za-z0-9_-]{1,64}|\*)(\.([A-Za-z0-9_-]{1,64}|\*)){2}")

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


def run_tokens(ref: RunRef) -> str:
    """The three tokens of a run's name.

    Raises:
        Rejected: one of them cannot be a subject token.
    """
    tokens = ".".join(ref)
    if RUN.fullmatch(tokens) is None:
        raise Rejected("bad_id", f"{tokens!r} is not a run's name: tenant, job, run")
    return tokens


def pattern_tokens(ref: RunRef) -> str:
    """The three tokens of a pattern over run names, `*` being any.

    Raises:
        Rejected: one of them can be neither a token nor `*`.
    """
    tokens = ".".join(ref)
    if PATTERN.fullmatch(tokens) is None:
        raise Rejected("bad_id", f"{tokens!r} is not a pattern of run names")
    return tokens


def token(value: str) -> str:
    """One subject token.

    Raises:
        Rejected: it cannot be one.
    """
    if TOKEN.fullmatch(value) is None:
        raise Rejected("bad_id", f"{value!r} cannot be part of a subject")
    return value


def ref_of(subject: str) -> RunRef:
    """The run a subject is about: its last three tokens."""
    _, tenant, job, run = subject.rsplit(".", 3)
    return RunRef(tenant, job, run)


def scope_of(subject: str) -> Scope:
    """The scope a subject is about: its last three tokens."""
    _, provider, account, model = subject.rsplit(".", 3)
    return Scope(provider, account, model)


def entry_of(subject: str, revision: int, data: bytes) -> Entry:
    """The registry's value under a subject: its last three tokens name it."""
    _, kind, tenant, name = subject.rsplit(".", 3)
    return Entry(kind, tenant, name, revision, data)


@dataclass(frozen=True, slots=True)
class Names:
    """Every stream and subject of one deployment."""

    prefix: str

    def __post_init__(self) -> None:
        for part in self.prefix.split("."):
            token(part)

    def stream(self, kind: str) -> str:
        """The stream of that kind: `EVENTS` of prefix `peritus` is `PERITUS_EVENTS`."""
        return f"{self.prefix.replace('.', '_').upper()}_{kind}"

    def any(self, kind: str) -> str:
        """All subjects of one kind."""
        return f"{self.prefix}.{kind}.>"

    def run(self, kind: str, ref: RunRef) -> str:
        """The subject of that kind for one run."""
        return f"{self.prefix}.{kind}.{run_tokens(ref)}"

    def runs(self, kind: str, pattern: RunRef) -> str:
        """The subject filter of that kind for a pattern of runs."""
        return f"{self.prefix}.{kind}.{pattern_tokens(pattern)}"

    def job(self, kind: str, tenant: str, job: str) -> str:
        """The filter of all subjects of that kind for one job."""
        return f"{self.prefix}.{kind}.{token(tenant)}.{token(job)}.>"

    def work(self, lane: Lane, ref: RunRef) -> str:
        """The subject of one run's work in a lane."""
        return f"{self.prefix}.work.{lane}.{run_tokens(ref)}"

    def timer(self, ref: RunRef, timer: str) -> str:
        """The subject that holds one timer of a run."""
        return f"{self.prefix}.tmr.{run_tokens(ref)}.{token(timer)}"

    def blob(self, tenant: str, digest: str) -> str:
        """The subject of one blob."""
        return f"{self.prefix}.blob.{token(tenant)}.{token(digest)}"

    def lease(self, epoch: str) -> str:
        """The subject of one epoch's lease."""
        return f"{self.prefix}.lease.{token(epoch)}"

    def limit(self, scope: Scope) -> str:
        """The subject of what is noted of one model of one account."""
        return f"{self.prefix}.limit.{'.'.join(map(token, scope))}"

    def entry(self, kind: str, tenant: str, name: str) -> str:
        """The subject of one value of the registry."""
        return f"{self.prefix}.reg.{token(kind)}.{token(tenant)}.{token(name)}"

    def entries(self, kind: str, tenant: str, name: str | None = None) -> str:
        """The subject filter of values of the registry: `*` is any tenant, None any name."""
        whose = "*" if tenant == "*" else token(tenant)
        return f"{self.prefix}.reg.{token(kind)}.{whose}.{'*' if name is None else token(name)}"
