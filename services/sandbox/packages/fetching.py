"""Installs packages into an empty workspace, in a sandbox that reaches a registry and nothing else.

Not where they are kept, and not when they are fetched.
"""

import asyncio
import codecs
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.sandbox import EgressRow, SandboxLimits
from domain.secrets import SecretRef, SecretValue
from services.sandbox.box import Box, Means
from services.sandbox.egress.broker import Broker
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.failures import SandboxUnavailable
from services.sandbox.packages.request import Request
from services.sandbox.packages.scripts import NEEDS, NOT_THERE, installing
from services.sandbox.packages.settings import PackageSettings
from services.sandbox.policy import Allowance
from services.sandbox.port import Backend, OnBytes, Outcome, Owner
from services.sandbox.workspace import Workspace
from services.worker.toolbox import OnOutput

logger = logging.getLogger(__name__)

TAIL_CHARS = 2000
"""How much of the end of what an installer printed is told."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What packages are fetched with."""

    settings: PackageSettings
    egress: EgressSettings
    limits: SandboxLimits
    backend: Callable[[], Awaitable[Backend]]
    owner: Owner  # of the sandboxes it is done in
    tasks: asyncio.TaskGroup


async def fetch(
    shop: Workshop, request: Request, image: str | None, workspace: Workspace, say: OnOutput
) -> None:
    """Run the installer to its end; nothing runs afterwards.

    Raises:
        SandboxUnavailable: it cannot be run, or has failed; the message says why.
    """
    denied: list[str] = []

    async def on_denied(row: EgressRow) -> None:
        denied.append(f"{row.host}:{row.port} ({row.reason})")

    # A proxy of its own: what may be dialled for this is not what skills may dial.
    broker = Broker(shop.settings.egress(shop.egress), shop.tasks)
    box = Box(
        shop.owner,
        workspace,
        Allowance(
            limits=shop.limits,
            read_only=False,
            isolated=False,
            image=image,
            egress=shop.settings.reach(request.kind),
            secrets=(),
        ),
        Means(shop.backend, _given(broker), _nothing),
    )
    box.on_denied = on_denied
    said = f"fetching {' '.join(request.packages)} from {shop.settings.registry(request.kind)}"
    logger.info("%s", said)
    await say(f"{said}\n")
    try:
        sandbox = await box.sandbox()
        outcome = await sandbox.exec(
            installing(request, shop.settings), on_stdout=_text(say), on_stderr=_text(say)
        )
    finally:
        await box.close()
        await broker.close()
    if outcome.exit_code != 0:
        raise _failure(shop, request, image, outcome, denied)


def _failure(
    shop: Workshop, request: Request, image: str | None, outcome: Outcome, denied: list[str]
) -> SandboxUnavailable:
    if outcome.exit_code == NOT_THERE:
        message = (
            f"{request.name} cannot be fetched: the {'image' if image else 'sandbox'} lacks "
            f"{NEEDS[request.kind]}; with bubblewrap install it on this machine, below /usr; with "
            "Docker take an image that has it (PERITUS_SANDBOX_IMAGE)"
        )
        return SandboxUnavailable(message)
    why = f"exit code {outcome.exit_code}"
    if outcome.timed_out:
        why = f"not done after {shop.settings.timeout_s:g} s (PERITUS_PACKAGES_TIMEOUT_S)"
    message = f"{request.name} cannot be fetched from {shop.settings.registry(request.kind)}: {why}"
    if denied:
        hosts = "PERITUS_NPM_HOSTS" if request.kind == "npm" else "PERITUS_PYPI_HOSTS"
        message += (
            f"; connections that were refused: {', '.join(denied)}; an operator adds hosts by "
            f"{hosts}, and addresses that are not public by PERITUS_PACKAGES_ALLOW_CIDRS"
        )
    printed = (outcome.stderr.end(TAIL_CHARS) or outcome.stdout.end(TAIL_CHARS)).decode(
        "utf-8", "replace"
    )
    if "certificate" in printed.lower():
        message += (
            "; an operator names the certificates of a registry by PERITUS_PACKAGES_CA_FILE: what "
            "is known to this machine may not be known to programs inside"
        )
    return SandboxUnavailable(f"{message}; the end of what it printed:\n{printed.strip()}")


def _text(say: OnOutput) -> OnBytes:
    """Hears bytes, and says them as text."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def hear(data: bytes) -> None:
        text = decoder.decode(data)
        if text:
            await say(text)

    return hear


def _given(broker: Broker) -> Callable[[], Awaitable[Broker]]:
    async def give() -> Broker:
        return broker

    return give


async def _nothing(_ref: SecretRef) -> SecretValue | None:
    return None
