"""How runs, steps and calls are called in AG-UI: the same thing always has the same name. Pure."""

from typing import NamedTuple

from domain.ids import TOKEN as TOKEN_PATTERN
from domain.ids import RunRef, derive_id


def job_of(tenant: str, thread: str) -> RunRef:
    """The job of a thread: of that name, where a job can have it, and else of one made of it."""
    name = thread if TOKEN_PATTERN.fullmatch(thread) else derive_id("thread", tenant, thread)
    return RunRef(tenant, name, name)


def message_of(run: str, step: int) -> str:
    """The message that the reply of a step is."""
    return f"{run}.s{step}"


def reasoning_of(run: str, step: int) -> str:
    """The message that the thoughts of a step are."""
    return f"{run}.s{step}.thoughts"


def call_of(run: str, call: str) -> str:
    """A tool call; ids of calls are only a run's own."""
    return f"{run}.{call}"


def result_of(run: str, call: str) -> str:
    """The message that the result of a call is."""
    return f"{run}.{call}.result"


class InterruptName(NamedTuple):
    """What waits, and the digest of what the person is shown: an answer to it has both (C14)."""

    run: str
    wait: str
    digest: str

    def __str__(self) -> str:
        """The id of the interrupt."""
        return f"{self.run}.{self.wait}.{self.digest}"

    @classmethod
    def parse(cls, text: str) -> "InterruptName | None":
        """The name of that text; None when it is none."""
        run, dot, rest = text.partition(".")
        wait, dots, digest = rest.rpartition(".")
        return cls(run, wait, digest) if dot and dots and run and wait else None
