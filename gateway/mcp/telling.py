"""What a caller hears while a run is at work: progress, and lines of a log. Not what it decides.

The number of the progress only ever grows: it counts what was told.
"""

from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.server.connection import allowed_log_levels
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from domain import events as e
from projections.family import Family

SESSIONS_MAX = 1_000
LEVELS: tuple[types.LoggingLevel, ...] = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
LEVEL: types.LoggingLevel = "info"
"""The level of how a run begins and of what waits for a person; each step is `debug`."""


def session_of(ctx: ServerRequestContext[Any, Any]) -> str:
    """Names the connection that a message came by; on stdio there is one."""
    headers: Mapping[str, str] = getattr(ctx.request, "headers", {})
    return headers.get("mcp-session-id", "")


class Levels:
    """From which level on each session wants log lines; not those that say so in each request."""

    def __init__(self) -> None:
        self._from: dict[str, types.LoggingLevel] = {}

    async def set(
        self, ctx: ServerRequestContext[Any, Any], params: types.SetLevelRequestParams
    ) -> types.EmptyResult:
        """`logging/setLevel`."""
        self._from[session_of(ctx)] = params.level
        while len(self._from) > SESSIONS_MAX:
            del self._from[next(iter(self._from))]
        return types.EmptyResult()

    def wanted(self, ctx: ServerRequestContext[Any, Any]) -> frozenset[types.LoggingLevel]:
        """The levels that the sender of a request wants to hear of."""
        if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            return allowed_log_levels(ctx.protocol_version, ctx.meta)
        return frozenset(LEVELS[LEVELS.index(self._from.get(session_of(ctx), LEVEL)) :])


class Teller:
    """Tells one caller how its run gets on."""

    def __init__(self, ctx: ServerRequestContext[Any, Any], levels: Levels, run: str) -> None:
        self._ctx = ctx
        self._logs = levels.wanted(ctx)
        self._run = run
        self._told = 0
        self._last = f"run {run}"

    async def say(self, text: str, level: types.LoggingLevel = "debug") -> None:
        """Tell something new, also to those who watch logs instead of progress."""
        self._told, self._last = self._told + 1, text
        await self._ctx.session.report_progress(self._told, message=text)
        if level in self._logs:
            line = types.LoggingMessageNotification(
                params=types.LoggingMessageNotificationParams(
                    level=level, logger="peritus", data={"run": self._run, "message": text}
                )
            )
            await self._ctx.session.send_notification(line, self._ctx.request_id)

    async def still(self) -> None:
        """Tell that what was told last goes on."""
        self._told += 1
        await self._ctx.session.report_progress(self._told, message=self._last)


def words_of(family: Family, run: str, event: e.Event) -> str:
    """An event as a person would tell it; empty for one that means little to a caller."""
    text = _words_of_run(event) or _words_of_step(event)
    expert, state = family.expert(run), family.looks[run].state
    return f"{expert}, step {state.step}: {text}" if text else ""


def _words_of_step(event: e.Event) -> str:
    match event:
        case e.GenerationRequested():
            return "asks the model" + (f", try {event.attempt}" if event.attempt > 1 else "")
        case e.ToolCallRequested():
            return f"calls {event.tool}"
        case e.ToolCallEnded():
            return "a call failed" if event.is_error else "a call came back"
        case e.DelegationRequested():
            return f"gives a task to {event.expert}"
        case _:
            return ""


PLAIN: Mapping[type[e.Event], str] = {
    e.RunStarted: "begins",
    e.RunForked: "begins with the past of another run",
    e.RunContinued: "goes on",
    e.RunPaused: "is paused",
    e.RunResumed: "goes on",
    e.CancelRequested: "is being cancelled",
    e.RunCompleted: "has completed",
    e.RunCancelled: "was cancelled",
    e.RunDeleted: "was deleted",
}


def _words_of_run(event: e.Event) -> str:
    match event:
        case e.RunStopped():
            return f"was stopped at its limit of {event.limit}"
        case e.RunFailed():
            return f"has failed: {event.failure.kind}"
        case _:
            return PLAIN.get(type(event), "")
