"""One session with a server as the SDK has it: how it begins, and how its requests are sent.

Results are not checked against a tool's schema here: what does not fit is told to a model, and is
no reason to keep from it what the server said.
"""

import asyncio
import importlib.metadata
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import mcp_types as types
from mcp.client import ClientRequestContext, ClientSession
from mcp.shared.dispatcher import OnNotify, OnNotifyIntercept, OnRequest, ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from pydantic import BaseModel, TypeAdapter, ValidationError

from services.tool.mcp.bounds import Bounds
from services.tool.mcp.light import Answers, Light
from services.tool.mcp.seam import Handshake, NotOpened, Refused, Report, Unreadable

ROUNDS_MAX = 10
"""How often a call may be answered with further questions (SEP-2322)."""

QUESTIONS_MAX = 16
"""How many of them at once."""

STATE_ONLY_S = 0.25

A = TypeVar("A")
T = TypeVar("T", bound=BaseModel)

PEER = types.Implementation(name="peritus", version=importlib.metadata.version("peritus"))

NOT_LEGACY = (
    types.UNSUPPORTED_PROTOCOL_VERSION,
    types.METHOD_NOT_FOUND,
    types.HEADER_MISMATCH,
    types.INVALID_PARAMS,
)
"""What a server that knows the newest protocol only may make of how sessions began before."""

_CALLED: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_READ: TypeAdapter[types.ReadResourceResult | types.InputRequiredResult] = TypeAdapter(
    types.ReadResourceResult | types.InputRequiredResult
)
_FILLED: TypeAdapter[types.GetPromptResult | types.InputRequiredResult] = TypeAdapter(
    types.GetPromptResult | types.InputRequiredResult
)


class Dispatcher(JSONRPCDispatcher):
    """The SDK's own, which also says when the other side is gone."""

    def __init__(
        self,
        reading: Any,  # noqa: ANN401 - each transport has its own kind of streams
        writing: Any,  # noqa: ANN401
        on_over: Callable[[], None],
        bounds: Bounds,
        report: Report,
    ) -> None:
        light = Light(reading, bounds, report)
        super().__init__(cast("Any", light), cast("Any", Answers(writing, light)))
        self._on_over = on_over

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        **rest: Any,  # noqa: ANN401 - how the SDK's task groups hear that it runs
    ) -> None:
        """Serve until the streams end."""
        try:
            await super().run(on_request, on_notify, on_notify_intercept, **rest)
        finally:
            self._on_over()


async def begin(session: ClientSession, handshake: Handshake) -> None:
    """Agree on a version of the protocol, with old servers and new.

    Raises:
        NotOpened: there is none that both know, or the server gives no sense.
    """
    try:
        if handshake == "auto":
            await _newest_first(session)
        else:
            await _initialize_first(session)
    except (MCPError, RuntimeError, ValidationError) as error:
        message = f"it does not begin a session: {_told(error)}"
        raise NotOpened(message) from error


async def _newest_first(session: ClientSession) -> None:
    try:
        await session.discover()
    except (MCPError, RuntimeError, ValidationError) as error:
        if isinstance(error, MCPError) and error.code == types.CONNECTION_CLOSED:
            raise
        await session.initialize()


async def _initialize_first(session: ClientSession) -> None:
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in NOT_LEGACY:
            raise
        first: Exception = error
    except RuntimeError as error:  # it answers, with a version that begins otherwise
        first = error
    else:
        return
    try:
        await session.discover()
    except (MCPError, RuntimeError, ValidationError):
        raise first from None  # which says more of a server that knows neither


async def call_tool(
    session: ClientSession, name: str, arguments: dict[str, Any], progress: ProgressFnT
) -> types.CallToolResult:
    """Call a tool, and answer what it asks for on the way.

    Raises:
        Refused: the server answers with an error.
        Unreadable: its answer is none.
    """

    async def send(
        answers: types.InputResponses | None, state: str | None
    ) -> types.CallToolResult | types.InputRequiredResult:
        params = types.CallToolRequestParams(
            name=name, arguments=arguments, input_responses=answers, request_state=state
        )
        request = types.CallToolRequest(params=params)
        return await session.send_request(request, _CALLED, progress_callback=progress)

    return await _driven(session, send, types.CallToolResult)


async def read_resource(session: ClientSession, uri: str) -> types.ReadResourceResult:
    """Read a resource.

    Raises:
        Refused: the server answers with an error.
        Unreadable: its answer is none.
    """

    async def send(
        answers: types.InputResponses | None, state: str | None
    ) -> types.ReadResourceResult | types.InputRequiredResult:
        params = types.ReadResourceRequestParams(
            uri=uri, input_responses=answers, request_state=state
        )
        return await session.send_request(types.ReadResourceRequest(params=params), _READ)

    return await _driven(session, send, types.ReadResourceResult)


async def get_prompt(
    session: ClientSession, name: str, arguments: dict[str, str]
) -> types.GetPromptResult:
    """Fill in a prompt.

    Raises:
        Refused: the server answers with an error.
        Unreadable: its answer is none.
    """

    async def send(
        answers: types.InputResponses | None, state: str | None
    ) -> types.GetPromptResult | types.InputRequiredResult:
        params = types.GetPromptRequestParams(
            name=name, arguments=arguments, input_responses=answers, request_state=state
        )
        return await session.send_request(types.GetPromptRequest(params=params), _FILLED)

    return await _driven(session, send, types.GetPromptResult)


async def _driven(
    session: ClientSession,
    send: Callable[
        [types.InputResponses | None, str | None], Awaitable[T | types.InputRequiredResult]
    ],
    kind: type[T],
) -> T:
    answers: types.InputResponses | None = None
    state: str | None = None
    for _ in range(ROUNDS_MAX):
        result = await answered(send(answers, state))
        if isinstance(result, kind):
            return result
        if not isinstance(result, types.InputRequiredResult):
            break
        state = result.request_state
        answers = await _answers(session, result.input_requests or {})
        if answers is None:
            await asyncio.sleep(STATE_ONLY_S)
    message = f"it asked more than {ROUNDS_MAX} times before it answered"
    raise Unreadable(message)


async def answered(answer: Awaitable[A]) -> A:
    """The answer to a request, or why there is none, in our own words.

    Raises:
        Refused: the server answers with an error.
        Unreadable: its answer is none.
    """
    try:
        return await answer
    except MCPError as error:
        raise Refused(error.code, error.message, error.data) from error
    except (ValidationError, RecursionError) as error:
        raise Unreadable(_told(error)) from error


async def _answers(
    session: ClientSession, requests: types.InputRequests
) -> types.InputResponses | None:
    """What is answered to the questions a result came with, one after the other."""
    if len(requests) > QUESTIONS_MAX:
        message = f"it asked {len(requests)} things at once; {QUESTIONS_MAX} are answered"
        raise Unreadable(message)
    answers: types.InputResponses = {}
    for key, request in requests.items():
        context = ClientRequestContext(session=session, request_id=key)
        answer = await session.dispatch_input_request(context, request)
        if isinstance(answer, types.ErrorData):
            raise Refused(answer.code, f"it asked for something it was refused: {answer.message}")
        answers[key] = answer
    return answers or None


def _told(error: BaseException) -> str:
    """What went wrong, without what a server sent: that may be anything, at any length."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        return f"{where}: {first['msg'][:200]}"
    return str(error)[:500] or type(error).__name__
