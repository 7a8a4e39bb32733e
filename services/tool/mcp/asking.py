"""What a server asks us for, and what it is told. Not who asks the person: `Asks` does.

A server is a stranger: what it wants to know is shown to a person as it is, bounded, and what it
wants a model to say is said only where the definition allows it.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
from mcp.client import ClientRequestContext
from mcp_types import (
    INVALID_REQUEST,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestFormParams,
    ElicitRequestParams,
    ElicitResult,
    ErrorData,
    ListRootsResult,
    Root,
    SamplingMessage,
    TextContent,
)
from pydantic import FileUrl

from domain.errors import PeritusError
from domain.record import clean
from domain.schema_rules import shape_problem
from services.tool.mcp.seam import Server
from services.tool.mcp.turns import NotTold, OpenCall, Turns
from services.worker.skills import Asks, Question, Reply, Said, Sample

logger = logging.getLogger(__name__)

T = TypeVar("T")

QUESTIONS_MAX = 32
"""How often one call may ask a person or a model."""

MESSAGE_CHARS_MAX = 4_000
URL_CHARS_MAX = 2_000
SAMPLE_CHARS_MAX = 200_000
SAMPLE_MESSAGES_MAX = 100


class Asking:
    """Answers the requests of one server, in the name of its open calls."""

    def __init__(self, server: Server, turns: Turns, asks: Asks) -> None:
        self._server = server
        self._turns = turns
        self._asks = asks

    async def elicit(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult | ErrorData:
        """Ask the person behind the open call."""
        del context
        question = _question(params)
        if isinstance(question, str):
            return _no(question)

        async def ask(call: OpenCall) -> ElicitResult:
            reply = await self._asks.elicit(call.call, question)
            return ElicitResult(action=reply.action, content=_plain(reply))

        return await self._for_call(ask)

    async def sample(
        self, context: ClientRequestContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult | ErrorData:
        """Have the run's own model say something, where the definition allows it."""
        del context
        sample = _sample(params)
        if isinstance(sample, str):
            return _no(sample)

        async def ask(call: OpenCall) -> CreateMessageResult:
            said = await self._asks.sample(call.call, sample)
            return CreateMessageResult(
                role="assistant",
                content=TextContent(text=said.text),
                model=said.model,
                stop_reason=said.stop_reason,
            )

        return await self._for_call(ask)

    async def roots(self, context: ClientRequestContext) -> ListRootsResult | ErrorData:
        """The folder the server sees."""
        del context
        folder = Path(self._server.folder or "/")
        return ListRootsResult(roots=[Root(uri=FileUrl(folder.as_uri()), name="workspace")])

    async def _for_call(self, ask: Callable[[OpenCall], Awaitable[T]]) -> T | ErrorData:
        try:
            call = await self._turns.asking()
            call.questions += 1
            if call.questions > QUESTIONS_MAX:
                return _no(f"a call may ask {QUESTIONS_MAX} times")
            with anyio.CancelScope() as scope:
                call.on_end.append(scope.cancel)
                try:
                    return await ask(call)
                finally:
                    call.on_end.remove(scope.cancel)
            return _no("the call is over")
        except (NotTold, PeritusError) as error:
            logger.info("a question of %s was refused: %s", self._server.name, error)
            return _no(str(error))


def _question(params: ElicitRequestParams) -> Question | str:
    """What the person is asked; a text says why not."""
    message = clean(params.message)[:MESSAGE_CHARS_MAX]
    if isinstance(params, ElicitRequestFormParams):
        schema: dict[str, Any] = dict(params.requested_schema)
        problem = shape_problem(schema)
        return Question(message, schema=schema) if problem is None else f"the form: {problem}"
    if not web_address(params.url):
        return f"an address to open is http or https, of at most {URL_CHARS_MAX} characters"
    return Question(message, url=clean(params.url))


def web_address(url: str) -> bool:
    """Whether a person may be asked to open that."""
    return len(url) <= URL_CHARS_MAX and url.startswith(("https://", "http://"))


def _plain(reply: Reply) -> dict[str, Any] | None:
    """What was filled in, in the shapes that forms have."""
    return None if reply.content is None or reply.action != "accept" else dict(reply.content)


def _sample(params: CreateMessageRequestParams) -> Sample | str:
    """What the model is asked for; a text says why not."""
    if params.tools:
        return "tools are not offered when a server samples"
    if len(params.messages) > SAMPLE_MESSAGES_MAX:
        return f"at most {SAMPLE_MESSAGES_MAX} messages are taken"
    said = [_said(message) for message in params.messages]
    texts = [one for one in said if isinstance(one, Said)]
    if len(texts) != len(said):
        return "only texts are taken when a server samples"
    if sum(len(one.text) for one in texts) > SAMPLE_CHARS_MAX:
        return f"at most {SAMPLE_CHARS_MAX} characters are taken"
    system = clean(params.system_prompt or "")[:SAMPLE_CHARS_MAX]
    return Sample(tuple(texts), system=system, output_tokens_max=max(1, params.max_tokens))


def _said(message: SamplingMessage) -> Said | None:
    parts = message.content if isinstance(message.content, list) else [message.content]
    texts = [part.text for part in parts if isinstance(part, TextContent)]
    return Said(message.role, clean("\n".join(texts))) if len(texts) == len(parts) else None


def _no(message: str) -> ErrorData:
    return ErrorData(code=INVALID_REQUEST, message=message)
