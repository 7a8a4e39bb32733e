"""Which run a path means, within the tenant that asks (C9, C18). Not a query to the views."""

from typing import Any

from domain.ids import TOKEN, RunRef
from gateway.deps import GatewayDeps
from gateway.operations import Asked
from gateway.problems import Problem


async def find_run(
    deps: GatewayDeps, asked: Asked[Any, Any], *, job: str | None = None, name: str | None = None
) -> RunRef:
    """The run of that name, or of the one in the path, if it is this tenant's.

    With its job it may be one whose start is stored and not handled yet.

    Raises:
        Problem: it is not there.
        Unavailable: the log is away.
    """
    name, tenant = asked.part("run") if name is None else name, asked.tenant
    ref = None
    if TOKEN.fullmatch(name):
        ref = await deps.backbone.log.find(tenant, name)
    if ref is None and job is not None and TOKEN.fullmatch(name) and TOKEN.fullmatch(job):
        return RunRef(tenant, job, name)
    if ref is None:
        raise Problem.no_such_run()
    return ref
