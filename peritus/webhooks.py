"""Puts together what tells webhooks in this process. Not who is told of what."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from eventlog.jetstream.tasks import background
from eventlog.port import Backbone
from gateway.webhooks.hooks import Hooks
from gateway.webhooks.sender import Sender
from peritus.ids import now_ms
from peritus.posting import posting
from peritus.settings import Settings
from services.worker.epoch import this_epoch


def hooks_of(settings: Settings, backbone: Backbone) -> Hooks:
    """The webhooks of the deployment."""
    return Hooks(backbone, now_ms=now_ms, plain=bool(settings.webhook_allow_cidrs))


@asynccontextmanager
async def telling(
    settings: Settings, backbone: Backbone, hooks: Hooks | None
) -> AsyncGenerator[None]:
    """Tell webhooks while the context is open."""
    hooks = hooks or hooks_of(settings, backbone)
    async with posting(settings) as post:
        sender = Sender(backbone, hooks, post, str(this_epoch()), now_ms, random.random)
        async with background(sender.run()):
            yield
