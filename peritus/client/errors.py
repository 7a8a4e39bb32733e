"""What a gateway refuses, as errors of the same tree that the embedded API raises. Not transport.

Rejected        Refused, and of it NotAllowed, NotFound (also a NoSuchRun), Invalid
Unavailable     a part is away, or the gateway cannot be reached; TooMany: asked too often
TooLarge        the request has too many bytes
Faulty          the gateway failed, or what answered is no gateway
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from domain.errors import NoSuchRun, PeritusError, Rejected, TooLarge, Unavailable

DETAIL_CHARS_MAX = 300


class Refused(Rejected):
    """The gateway says no, and would again: `code` for programs, `message` for people."""

    def __init__(self, status: int, code: str, message: str, problem: Mapping[str, Any]) -> None:
        Rejected.__init__(self, code, message)  # NotFound has a base with other arguments
        self.status = status
        self.problem = problem


class NotAllowed(Refused):
    """The key is missing, wrong, or not for this."""


class NotFound(Refused, NoSuchRun):
    """It is not there, or is another tenant's."""


class Invalid(Refused):
    """The request is wrong: `errors` has each wrong field."""

    @property
    def errors(self) -> Sequence[Mapping[str, str]]:
        """Field and message of each."""
        found: object = self.problem.get("errors")
        return cast("list[Mapping[str, str]]", found) if isinstance(found, list) else []


class TooMany(Unavailable):
    """More requests than the gateway takes of one caller."""


class Faulty(PeritusError):
    """The gateway failed inside, or the answer is not one of a gateway."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def error_of(status: int, content: bytes) -> PeritusError:
    """The error that an answer is."""
    problem = _problem(content)
    code = str(problem.get("code") or f"http_{status}")
    message = str(problem.get("detail") or f"the answer was {status} without a problem")
    message = message[:DETAIL_CHARS_MAX]
    match status:
        case 401 | 403:
            return NotAllowed(status, code, message, problem)
        case 404:
            return NotFound(status, code, message, problem)
        case 413:
            return TooLarge(message)
        case 422:
            return Invalid(status, code, message, problem)
        case 429:
            return TooMany(message)
        case 502 | 503 | 504:
            return Unavailable(message)
        case _ if 400 <= status < 500:  # noqa: PLR2004 - what HTTP calls the client's errors
            return Refused(status, code, message, problem)
        case _:
            return Faulty(status, code, message)


def _problem(content: bytes) -> dict[str, Any]:
    try:
        found: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
