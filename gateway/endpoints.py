"""Makes routes of operations: who may, what was asked, what is answered. Not the table itself."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.bodies import Body, read_body
from gateway.callers import Caller, caller_of
from gateway.deps import GatewayDeps
from gateway.once import key_of
from gateway.operations import JSON_TYPE, Asked, NothingSent, Operation
from gateway.parameters import read_query
from gateway.problems import Problem

NOT_KEPT = {"Cache-Control": "no-store"}
"""Answers are of one caller and one moment."""

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


def routes(operations: Iterable[Operation], deps: GatewayDeps) -> list[Route]:
    """A route for each path, in the order of the table.

    Raises:
        ValueError: two operations have one name, or one method and path.
    """
    by_path, names = dict[str, dict[str, Operation]](), set[str]()
    for one in operations:
        methods = by_path.setdefault(one.path, {})
        if one.method in methods or one.name in names:
            msg = f"{one.method} {one.path} ({one.name}) is in the table twice"
            raise ValueError(msg)
        methods[one.method] = one
        names.add(one.name)
    return [Route(path, _Path(found, deps)) for path, found in by_path.items()]


def endpoint(operation: Operation, deps: GatewayDeps) -> Endpoint:
    """What serves an operation.

    Raises:
        Problem: the caller may not, or the request is not what is asked for.
    """

    async def serve(request: Request) -> ASGIApp:
        caller = caller_of(request)
        if caller is None:  # the gate names one wherever a credential is needed, or none is asked
            if not operation.open:
                raise Problem(401, "unauthorized", "A valid credential is needed.")
            caller = Caller(deps.tenant(request), deps.principal(request), "viewer")
        if not caller.may(operation.role):
            detail = f"This needs the role {operation.role}, and yours is {caller.role}."
            raise Problem(403, "forbidden", detail, role=operation.role)
        if operation.keyed:
            key_of(request)  # also where the same content is the same by itself
        query = read_query(request.query_params, operation.query)
        body = await _body(request, operation, deps.body_bytes_max)
        asked: Asked[Any, Any] = Asked(request, caller, query, body)
        answer = await operation.handler(asked)
        return encoded(answer, operation.status) if isinstance(answer, BaseModel) else answer

    return serve


def encoded(answer: BaseModel, status: int = 200) -> Response:
    """An answer as JSON; what is not known is null, so that every answer has all its names."""
    data = answer.__pydantic_serializer__.to_json(answer, by_alias=True)
    return Response(data, status_code=status, media_type=JSON_TYPE, headers=NOT_KEPT)


async def _body(request: Request, operation: Operation, bytes_max: int) -> Body:
    if operation.body is None or operation.body_media_type != JSON_TYPE:
        return NothingSent()
    return await read_body(request, operation.body, bytes_max=bytes_max)


class _Path:
    """The operations of one path, told apart by the method."""

    def __init__(self, operations: dict[str, Operation], deps: GatewayDeps) -> None:
        self._endpoints = {method: endpoint(one, deps) for method, one in operations.items()}
        got = operations.get("GET")
        if got is not None and not got.streams:
            self._endpoints["HEAD"] = self._endpoints["GET"]  # the server leaves the body out
        self._allow = {"Allow": ", ".join(sorted((*self._endpoints, "OPTIONS")))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            Problem: the path has no such method, or what the endpoint raises.
        """
        serve = self._endpoints.get(scope["method"])
        if serve is not None:
            answer = await serve(Request(scope, receive))
        elif scope["method"] == "OPTIONS":
            answer = Response(status_code=204, headers=self._allow)
        else:
            detail = f"This path takes {self._allow['Allow']}."
            raise Problem(405, "method_not_allowed", detail, headers=self._allow)
        await answer(scope, receive, send)
