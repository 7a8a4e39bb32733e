"""Ending the servers of a site before what they run in goes: within a time, whatever they do."""

import asyncio
import logging

from services.worker.skills import SkillHost

logger = logging.getLogger(__name__)

LEAVE_S = 30.0
"""How long taking leave of the servers of one site may take, in seconds; then they are killed."""


async def end_site(host: SkillHost, tenant: str, key: str) -> None:
    """Have the host let go of a site. What it cannot end is ended with its sandbox."""
    try:
        async with asyncio.timeout(LEAVE_S):
            await host.leave(tenant, key)
    except Exception:
        logger.exception("the servers at %s could not be taken leave of", key)
