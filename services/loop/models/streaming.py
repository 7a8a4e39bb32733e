"""One streamed reply, first byte to last: deadline and failures. Not what its events mean."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol, TypeVar

from domain.limits import Usage
from services.loop.models.port import Delta, ModelFailure, ModelReply, RateSigns
from services.loop.models.rates import rate_signs

MESSAGE_CHARS_MAX = 500

Event = TypeVar("Event")
Event_co = TypeVar("Event_co", covariant=True)
Event_contra = TypeVar("Event_contra", contravariant=True)


class Answer(Protocol):
    """The head of an answer."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, found in lower case."""
        ...


class EventStream(Protocol[Event_co]):
    """What the SDKs give: the head of the answer, events, and a way to hang up."""

    @property
    def response(self) -> Answer:
        """The answer whose body the events are."""
        ...

    def __aiter__(self) -> AsyncIterator[Event_co]:
        """The events in order."""
        ...

    async def close(self) -> None:
        """Hang up; what is not read is lost."""
        ...


class ReplyBuilder(Protocol[Event_contra]):
    """Puts a reply together from events."""

    @property
    def usage(self) -> Usage | None:
        """What is known to be spent so far."""
        ...

    def add(self, event: Event_contra) -> Sequence[Delta]:
        """Take the next event.

        Raises:
            ModelFailure: the event is an error.
        """
        ...

    def finish(self) -> ModelReply:
        """The whole reply.

        Raises:
            ModelFailure: the stream ended before the reply did (`network`), or nothing was said
                (`empty`).
        """
        ...


class Failures:
    """The exceptions of an SDK and what they mean. Everything else is a bug and goes on."""

    def __init__(
        self, caught: tuple[type[Exception], ...], failure_of: Callable[[Exception], ModelFailure]
    ) -> None:
        self.caught = caught
        self.failure_of = failure_of


async def stream_reply(
    open_stream: Callable[[], Awaitable[EventStream[Event]]],
    builder: ReplyBuilder[Event],
    on_delta: Callable[[Delta], Awaitable[None]],
    *,
    failures: Failures,
    timeout_s: float,
) -> ModelReply:
    """Make the one request and read its reply.

    `timeout_s` bounds the whole of it, also a stream that never stops trickling.

    Raises:
        ModelFailure: with the usage known so far, when there is no reply.
    """
    deadline = asyncio.timeout(timeout_s)
    limits: RateSigns | None = None
    try:
        async with deadline:
            try:
                stream = await open_stream()
            except failures.caught as error:
                raise failures.failure_of(error) from None
            limits = rate_signs(stream.response.headers)
            try:
                async with aclosing(_events(stream, failures)) as events:
                    async for event in events:
                        for delta in _add(builder, event):
                            await on_delta(delta)
            finally:
                await stream.close()
            return replace(builder.finish(), limits=limits)
    except TimeoutError:
        if not deadline.expired():
            raise
        message = f"no whole reply within {timeout_s:g} s"
        raise ModelFailure(
            kind="timeout", message=message, usage=builder.usage, limits=limits
        ) from None
    except ModelFailure as failure:
        failure.usage = failure.usage or builder.usage
        failure.limits = failure.limits or limits
        raise


async def _events(stream: EventStream[Event], failures: Failures) -> AsyncGenerator[Event]:
    # A generator of its own, so that what `on_delta` raises is never taken for the provider's.
    try:
        async for event in stream:
            yield event
    except failures.caught as error:
        raise failures.failure_of(error) from None
    except ValueError as error:  # not JSON, not UTF-8
        message = f"the stream is broken: {error}"[:MESSAGE_CHARS_MAX]
        raise ModelFailure(kind="malformed", message=message) from None


def _add(builder: ReplyBuilder[Event], event: Event) -> Sequence[Delta]:
    # The SDKs do not check what they parse: an event of the wrong shape lacks what its type says.
    try:
        return builder.add(event)
    except (AttributeError, TypeError) as error:
        message = f"an event of the stream has the wrong shape: {error}"[:MESSAGE_CHARS_MAX]
        raise ModelFailure(kind="malformed", message=message) from error
