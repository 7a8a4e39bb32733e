"""What this process writes about itself, with no secret in it (C15). Not the log of runs.

The one registry that is global: log lines and errors can come from anywhere in a process.
"""

import logging
import sys

from services.secrets.redactions import Redactions

REDACTIONS = Redactions()
"""Every secret value this process has seen. The composition root hands it on from here."""

OURS = ("commands", "domain", "eventlog", "gateway", "peritus", "projections", "services")


class RedactingFormatter(logging.Formatter):
    """Formats lines as usual, tracebacks too, then takes the values of secrets out."""

    def format(self, record: logging.LogRecord) -> str:
        """The line as it may be shown."""
        return hidden(super().format(record))


def hidden(text: str) -> str:
    """A text without the values of secrets."""
    return REDACTIONS.redactor().text(text)


def log_to_stderr(level: str) -> None:
    """Log lines of that level and above, and nothing of what libraries say below a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("peritus: %(levelname)s: %(message)s"))
    logging.basicConfig(
        handlers=[handler],
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]),
    )
    # They log what their caller is told anyway, with a traceback.
    for name in ("nats", "mcp"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
