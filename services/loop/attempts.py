"""Has a provider called once, within a time and until a stop. Not what the call is, or is for.

A provider's adapter may break in any way: that is a failure like others, and ends no worker.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from domain.errors import IntegrityViolated, Unavailable
from domain.events import Failure
from domain.ids import RunRef
from domain.limits import Usage
from services.loop.models.port import FailureKind, ModelFailure
from services.worker.hands import Stop
from services.worker.patience import Patience

logger = logging.getLogger(__name__)

MESSAGE_CHARS_MAX = 4_000
"""How much of a provider's message is kept: some send whole pages."""

ReplyT = TypeVar("ReplyT")


async def attempt(
    call: Callable[[], Awaitable[ReplyT]], ref: RunRef, stop: Stop, *, timeout_ms: int
) -> ReplyT | ModelFailure | None:
    """What a call came to: its reply, or why there is none; None when it was stopped."""
    try:
        async with stop.scope(Patience(timeout_ms / 1000)):
            return await call()
    except TimeoutError:
        if stop.requested:
            return None
        message = f"no reply within {timeout_ms} ms; limits.generationTimeoutMs sets this"
        return ModelFailure("timeout", message)
    except ModelFailure as failure:
        return failure
    except (Unavailable, IntegrityViolated) as error:
        return unmade(error, None)
    except Exception as error:
        logger.exception("the provider's adapter broke at run %s", ref.run)
        return ModelFailure("malformed", f"the reply could not be read: {type(error).__name__}")


def unmade(error: Exception, usage: Usage | None) -> ModelFailure:
    """The failure of a call for which the store was needed and away, or is damaged."""
    kind: FailureKind = "rejected" if isinstance(error, IntegrityViolated) else "network"
    return ModelFailure(kind, f"the request could not be made: {error}", usage=usage)


def recorded(failure: ModelFailure) -> Failure:
    """The failure as it is kept."""
    message = failure.message[:MESSAGE_CHARS_MAX]
    return Failure(kind=failure.kind, message=message, status=failure.status)
