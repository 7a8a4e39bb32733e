"""Anthropic's Messages API through its SDK. Not a retry policy: a reply is asked for once."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from domain.content import AssistantMessage, AssistantPart
from domain.limits import Usage
from domain.prompt import ModelRequest
from services.loop.models.anthropic_blocks import FORMAT
from services.loop.models.anthropic_clients import Connection
from services.loop.models.anthropic_reply import AnthropicReply
from services.loop.models.anthropic_request import render
from services.loop.models.origin import origin_of
from services.loop.models.port import Delta, ModelFailure, ModelReply
from services.loop.models.streaming import stream_reply

if TYPE_CHECKING:
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

PAUSES_MAX = 8
"""How often a reply is asked on: a provider pauses turns in which its own tools work for long."""

OnDelta = Callable[[Delta], Awaitable[None]]


class AnthropicModel:
    """The models behind one connection."""

    def __init__(self, connection: Connection, *, timeout_s: float = 300.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def generate(self, request: ModelRequest, on_delta: OnDelta) -> ModelReply:
        """Make one reply: one request, and one more for each pause that the provider makes in it.

        Raises:
            ModelFailure: there is none.
        """
        said: tuple[AssistantPart, ...] = ()
        spent: list[Usage | None] = []
        for _ in range(PAUSES_MAX + 1):
            try:
                reply, paused = await self._answer(request, said, on_delta)
            except ModelFailure as failure:
                failure.usage = _known([*spent, failure.usage])
                raise
            said = (*said, *reply.parts)
            spent.append(reply.usage)
            if not paused:
                # As long as one answer does not tell, nobody knows what they spent together.
                usage = None if None in spent else _known(spent)
                return replace(reply, parts=said, usage=usage)
        message = f"the provider paused the reply {PAUSES_MAX + 1} times and did not end it"
        raise ModelFailure(kind="server", message=message, usage=_known(spent))

    async def aclose(self) -> None:
        """Close the connections; may be called twice."""
        await self._connection.client.close()

    async def _answer(
        self, request: ModelRequest, said: tuple[AssistantPart, ...], on_delta: OnDelta
    ) -> tuple[ModelReply, bool]:
        """The next part of a reply of which something was said, and whether more has to come."""
        if said:
            messages = (*request.messages, AssistantMessage(parts=said))
            request = replace(request, messages=messages)

        async def further(delta: Delta) -> None:
            await on_delta(replace(delta, part=delta.part + len(said)))

        params = render(request)
        container = params.get("container")
        try:
            return await self._ask(request, params, further)
        except ModelFailure as failure:
            # Nobody knows from the log how long a container lives. One that is gone is left out.
            gone = failure.kind in {"rejected", "not_found"} and "container" in failure.message
            if not (gone and isinstance(container, dict) and container.pop("id", None)):
                raise
        if not container:
            params.pop("container")
        return await self._ask(request, params, further)

    async def _ask(
        self, request: ModelRequest, params: "MessageCreateParamsStreaming", on_delta: OnDelta
    ) -> tuple[ModelReply, bool]:
        connection = self._connection
        if connection.prepare is not None:
            await connection.prepare()
        builder = AnthropicReply(origin_of(FORMAT, request.context.model))
        reply = await stream_reply(
            lambda: connection.client.messages.create(**params),
            builder,
            on_delta,
            failures=connection.failures,
            timeout_s=self._timeout_s,
        )
        return reply, builder.paused


def _known(spent: Sequence[Usage | None]) -> Usage | None:
    """What some answers spent together, as far as they tell; None when none of them does."""
    told = [usage for usage in spent if usage is not None]
    return reduce(Usage.plus, told) if told else None
