"""The error tree, split by what the caller does. Not for tool failures: those are events.

PeritusError
├── Rejected       the request is wrong for this run: tell the caller, never retry
│   └── Unknown…   (see NoSuchRun)
├── Conflict       somebody else wrote first: reload, decide again
├── Unavailable    a part is away: back off, try again
│   └── AppendUnknown   the append may or may not be stored: re-read, look for our envelope
├── TooLarge       deterministic: offload or fail, never retry
└── IntegrityViolated   the stored history is not what was written: stop, alarm
    └── NoSuchBlob      content that is named is not there
"""


class PeritusError(Exception):
    """Base of every error Peritus raises on purpose."""


class Rejected(PeritusError):
    """The command cannot be accepted in this state; retrying the same command never helps."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class NoSuchRun(Rejected):
    """No run with that id exists in this log."""

    def __init__(self, run: str) -> None:
        super().__init__("no_such_run", f"no run {run!r}; list runs with `peritus runs`")


class Conflict(PeritusError):
    """The expected last sequence was wrong: reload and decide again."""


class Unavailable(PeritusError):
    """A part of the system is away for now: back off and try again."""


class AppendUnknown(Unavailable):
    """An append got no answer: it may be stored. Re-read the run and look for our envelope."""


class TooLarge(PeritusError):
    """A payload is above a named limit; the same bytes never fit, so this is never retried."""


class IntegrityViolated(PeritusError):
    """A stored history has a gap, a broken hash chain or bytes nobody can read."""


class NoSuchBlob(IntegrityViolated):
    """There is no content of that digest: a history that names it is not whole."""
