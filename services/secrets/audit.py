"""The audit of secrets as log lines. Not an event of a run: the log of runs has its own."""

import logging

from domain.secrets import SecretAccess

logger = logging.getLogger(__name__)


def log_access(access: SecretAccess) -> None:
    """Say who used which secret for what. Never its value."""
    logger.info(
        "secret %s (version %s) from %s for %s, run %s of job %s, tenant %s",
        access.name,
        access.version or "-",
        access.source or "nowhere",
        access.purpose or "-",
        access.run or "-",
        access.job or "-",
        access.tenant or "-",
    )
