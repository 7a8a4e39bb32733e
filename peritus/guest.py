"""A sandbox of the kind that a run's expert gets, over the run's files here, for an operator.

Secrets come into it by the egress proxy only. Nothing that is done in it is in the log.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from domain.definition import Definition
from domain.errors import Rejected
from domain.ids import RunRef
from domain.secrets import SecretRef, SecretValue
from domain.state import RunState
from eventlog.jetstream.tasks import background
from eventlog.port import Backbone
from peritus.backends import chosen_backend, operator_policy
from peritus.files import Files
from peritus.jobs import load_state
from peritus.lane import place_id
from peritus.project import Workspaces
from peritus.settings import Settings
from services.sandbox import lives
from services.sandbox.box import Box, Means
from services.sandbox.egress.broker import Broker
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.policy import Allowance, allow
from services.sandbox.port import Backend, Owner, Sandbox
from services.sandbox.workspace import Workspace
from services.secrets.config import SecretsConfig
from services.worker.epoch import this_epoch
from services.worker.signs import Signs


@dataclass(frozen=True, slots=True)
class Guest:
    """What an operator is let into."""

    sandbox: Sandbox
    backend: str
    path: Path  # of the workspace, outside
    state: RunState
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class Host:
    """What a sandbox for an operator is made with."""

    settings: Settings
    workspaces: Workspaces
    backbone: Backbone
    secrets: SecretsConfig

    @asynccontextmanager
    async def admit(self, ref: RunRef, *, egress: bool) -> AsyncGenerator[Guest]:
        """A sandbox over the files of a run, ended with the context.

        Raises:
            Rejected: there is no such run, or its files are not on this machine.
            Unavailable: there is no sandbox here, or the store is away.
        """
        state, _ = await load_state(self.backbone.log, ref)
        path = await Files(self.backbone, self.workspaces, ref).path()
        if path is None:
            message = (
                f"the workspace of run {ref.run} is not on this machine; `peritus files` has "
                "what snapshots hold of it"
            )
            raise Rejected("no_workspace", message)
        allowance = await self._allowance(state, egress=egress)
        place = place_id(self.workspaces.place)
        async with AsyncExitStack() as stack:
            epoch = await self._sign(stack)
            workspace = stack.enter_context(Workspace(path))
            backend, report = await chosen_backend(self.settings, self.workspaces.place)
            lives.begin(self.workspaces.place, epoch)
            stack.callback(lives.end, self.workspaces.place, epoch)
            stack.push_async_callback(backend.close)
            means = await self._means(stack, backend)
            box = Box(Owner(place, epoch, *ref), workspace, allowance, means)
            stack.push_async_callback(box.close)
            yield Guest(await box.sandbox(), report.backend, path, state, allowance)

    async def _allowance(self, state: RunState, *, egress: bool) -> Allowance:
        data = await self.backbone.blobs.get(state.ref.tenant, state.definition)
        expert = Definition.model_validate_json(data).expert(state.expert)
        found = replace(allow(expert, operator_policy(self.settings)), secrets=())
        if egress and found.egress is None:
            message = f"expert {state.expert!r} has no allowedDomains: there is no way out to open"
            raise Rejected("no_egress", message)
        return found if egress else replace(found, egress=None)

    async def _sign(self, stack: AsyncExitStack) -> str:
        """This process lives: no worker is to take what it makes for left behind."""
        epoch = str(this_epoch())
        signs = Signs(self.backbone.leases, epoch, (), tuple, lambda _: False)
        await signs.renew()
        await stack.enter_async_context(background(signs.run()))
        return epoch

    async def _means(self, stack: AsyncExitStack, backend: Backend) -> Means:
        tasks = await stack.enter_async_context(background())
        settings = EgressSettings(
            allow_cidrs=self.settings.egress_allow_cidrs,
            extra_ca_file=str(file) if (file := self.settings.egress_ca_file) else None,
            secrets=self.secrets,
        )
        broker = Broker(settings, tasks)
        stack.push_async_callback(broker.close)

        async def made() -> Backend:
            return backend

        async def proxy() -> Broker:
            return broker

        return Means(made, proxy, _none)


async def _none(ref: SecretRef) -> SecretValue | None:
    """No secret enters a sandbox for an operator."""
    del ref
    return None
