"""The layers around the gateway's routes, from the outside in. Not the routes."""

from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from gateway.auth.gate import Gate
from gateway.auth.outside import Outside
from gateway.callers import Caller
from gateway.deps import GatewayDeps
from gateway.problems import Boundary


def layers(deps: GatewayDeps, open_paths: frozenset[str]) -> list[Middleware]:
    """What a request passes: headers, the boundary of errors, the gate."""

    def home(connection: HTTPConnection) -> Caller:
        return Caller(deps.tenant(connection), deps.principal(connection))

    origins = frozenset[str]() if deps.auth is None else deps.auth.origins
    return [
        Middleware(Outside, origins=origins),
        Middleware(Boundary, redactor=deps.redactor),
        Middleware(
            Gate,
            token=deps.token,
            hosts=deps.hosts,
            auth=deps.auth,
            home=home,
            open_paths=open_paths,
        ),
    ]
