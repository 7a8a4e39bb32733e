"""What went wrong, as problem+json (RFC 9457). The one place that catches what nobody expected.

A problem names fields and codes, never what a request held (C15).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import IntegrityViolated, NoSuchRun, Rejected, TooLarge, Unavailable
from domain.redaction import Redactor

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1

STATUS_BY_CODE: Mapping[str, int] = {
    "no_such_run": 404,
    "no_such_job": 404,
    "bad_url": 422,
    "bad_filter": 422,
    "bad_id": 404,
    "unknown_expert": 422,
    "unknown_provider": 422,
    "bad_definition": 422,
    "no_definition": 422,
    "empty_input": 422,
    "bad_arguments": 422,
    "bad_attachment": 422,
    "bad_cursor": 422,
    "bad_day": 422,
    "empty_query": 422,
    "long_query": 422,
    "too_many_rows": 422,
    "bad_answer": 422,
    "bad_input": 422,
    "bad_query": 422,
    "nothing_to_remember": 422,
    "too_long": 422,
}
"""HTTP status by the code of a rejection; any other is a conflict with the state of the run."""


DETAIL_BY_CODE: Mapping[str, str] = {
    "bad_arguments": "The arguments are not what the tool takes.",
    "bad_cursor": "The cursor is none of this list: leave it out to begin.",
    "bad_day": "A day is written as 2026-01-31.",
    "bad_answer": "The answer does not fit what is asked: see its form.",
    "bad_input": "The input is not what the expert asks for: see its input schema.",
    "not_waiting": "That does not wait for a person in this run.",
    "other_arguments": "It waits with other arguments than those of that digest.",
}
"""What is said instead of messages that would repeat a part of the request (C15)."""


class Problem(Exception):
    """An answer that is not what was asked for."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(code)
        self.headers = headers or {}
        self.status = status
        self.code = code
        self.detail = detail
        self.more = more

    @classmethod
    def no_such_run(cls) -> "Problem":
        """The run is not there, or is another tenant's: the same answer."""
        return cls(404, "no_such_run", "There is no such run.")

    def response(self, redactor: Redactor | None = None) -> Response:
        """The answer, without the values that a redactor knows (C15)."""
        headers = dict(self.headers)
        if self.status == 401:  # noqa: PLR2004
            headers.setdefault("WWW-Authenticate", "Bearer")
        if self.status == 503:  # noqa: PLR2004
            headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        body: dict[str, Any] = {
            "type": f"urn:peritus:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            **self.more,
        }
        return Response(
            orjson.dumps(body if redactor is None else redactor.value(body)),
            status_code=self.status,
            headers=headers,
            media_type="application/problem+json",
        )


def problem_of(error: Exception) -> Problem:
    """The problem an error is to a client; what is not meant for clients is an internal one."""
    match error:
        case Problem():
            return error
        case NoSuchRun():
            return Problem.no_such_run()
        case Rejected():
            detail = DETAIL_BY_CODE.get(error.code, error.message)
            return Problem(STATUS_BY_CODE.get(error.code, 409), error.code, detail)
        case TooLarge():
            return Problem(413, "too_large", "The request is too large.")
        case Unavailable():
            return Problem(503, "unavailable", "A part of the system is away; try again.")
        case IntegrityViolated():
            return Problem(500, "integrity_violated", "The stored history cannot be read.")
        case HTTPException():
            code = error.detail.lower().replace(" ", "_")
            return Problem(error.status_code, code, error.detail, headers=error.headers)
        case _:
            return Problem(500, "internal", "Something went wrong inside; it was logged.")


async def answer(request: Request, error: Exception) -> Response:
    """The handler of every error that is expected."""
    if isinstance(error, IntegrityViolated):
        logger.error("a request met a stored history that cannot be read")
    return problem_of(error).response(request.app.state.redactor())


EXPECTED: tuple[type[Exception], ...] = (
    Problem,
    Rejected,
    TooLarge,
    Unavailable,
    IntegrityViolated,
    HTTPException,
)


class Boundary:
    """The outermost layer: what nobody expected becomes an answer and a log entry."""

    def __init__(self, app: ASGIApp, *, redactor: Callable[[], Redactor]) -> None:
        self._app = app
        self._redactor = redactor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # the named boundary of the gateway
            problem = problem_of(error)
            if problem.code == "internal":
                logger.exception("a request to %s failed", scope.get("path"))
            if not started:
                await problem.response(self._redactor())(scope, receive, send)
