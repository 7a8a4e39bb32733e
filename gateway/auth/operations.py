"""Keys and sessions, asked over HTTP. Not how they are made: `keys` and `sessions` do that."""

from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.auth.gate import RECOGNISER, from_own_page, recognise
from gateway.auth.keys import ApiKey, KeyRing
from gateway.auth.recognise import CREDENTIAL_CHARS_MAX, Recogniser
from gateway.auth.sessions import COOKIE
from gateway.bodies import Body
from gateway.callers import Role
from gateway.deps import LOOPBACK_HOSTS, GatewayDeps
from gateway.endpoints import encoded
from gateway.models.keys import CreatedKey, Key, Keys, Session
from gateway.operations import Asked, Operation
from gateway.problems import Problem

TAG = "access"
NAME_CHARS_MAX = 64
EXPERT_CHARS_MAX = 200
EXPERTS_MAX = 100
TIME_MAX_MS = 10_000_000_000_000


class KeyBody(Body):
    """Make an API key of the caller's tenant."""

    name: str = Field(min_length=1, max_length=NAME_CHARS_MAX)
    role: Role
    experts: list[str] | None = Field(default=None, min_length=1, max_length=EXPERTS_MAX)
    expires_at_ms: int | None = Field(default=None, ge=1, le=TIME_MAX_MS)


class SessionBody(Body):
    """Begin a session with a key, or with what the `Authorization` header has."""

    key: str | None = Field(default=None, min_length=1, max_length=CREDENTIAL_CHARS_MAX)


def operations(deps: GatewayDeps) -> tuple[Operation, ...]:
    """Those of keys and sessions."""
    access = Access(deps)
    return (*_of_keys(access), *_of_sessions(access))


def _of_keys(access: "Access") -> tuple[Operation, ...]:
    return (
        Operation(
            "GET",
            "/v1/keys",
            "list_keys",
            "admin",
            "The API keys of the caller's tenant, without their secrets",
            access.list_keys,
            Keys,
            problems=(409,),
            tag=TAG,
        ),
        Operation(
            "POST",
            "/v1/keys",
            "create_key",
            "admin",
            "Make an API key; its text is in the answer, and nowhere else",
            access.create_key,
            CreatedKey,
            status=201,
            body=KeyBody,
            problems=(409,),
            tag=TAG,
            examples={"operator": {"name": "ci", "role": "operator", "experts": ["coder"]}},
        ),
        Operation(
            "DELETE",
            "/v1/keys/{key}",
            "revoke_key",
            "admin",
            "Take a key back, by id or name: within seconds it is good nowhere",
            access.revoke_key,
            Key,
            problems=(404, 409),
            tag=TAG,
        ),
    )


def _of_sessions(access: "Access") -> tuple[Operation, ...]:
    return (
        Operation(
            "POST",
            "/v1/session",
            "begin_session",
            "viewer",
            "Begin a session of a browser: the cookie stands for the key",
            access.begin,
            Session,
            status=201,
            body=SessionBody,
            tag=TAG,
            open=True,
            problems=(401, 403, 409, 415, 429),
        ),
        Operation(
            "DELETE",
            "/v1/session",
            "end_session",
            "viewer",
            "Have the browser forget its session",
            access.end,
            "",
            status=204,
            tag=TAG,
            open=True,
        ),
    )


class Access:
    """The handlers."""

    def __init__(self, deps: GatewayDeps) -> None:
        self._deps = deps

    async def list_keys(self, asked: Asked[Any, Any]) -> Keys:
        """`GET /v1/keys`.

        Raises:
            Problem: this gateway has no keys.
            Unavailable: the registry is away.
        """
        ring = self._ring()
        return Keys(keys=[Key(**_facts(ring, key)) for key in await ring.list(asked.tenant)])

    async def create_key(self, asked: Asked[Any, KeyBody]) -> CreatedKey:
        """`POST /v1/keys`: never more than the caller may himself.

        Raises:
            Problem: this gateway has no keys, or the caller may start fewer experts.
            Rejected: the name is not fit or is taken, or the time is over.
            Unavailable: the registry is away.
        """
        ring, body, own = self._ring(), asked.body, asked.caller.experts
        if own is not None and (body.experts is None or not own.issuperset(body.experts)):
            names = ", ".join(sorted(own))
            detail = f"Your own key may start {names} only: name some of these as experts."
            raise Problem(403, "forbidden", detail)
        key, text = await ring.create(
            asked.tenant,
            body.name,
            body.role,
            by=asked.by.name,
            experts=None if body.experts is None else tuple(sorted(set(body.experts))),
            expires_at_ms=body.expires_at_ms,
        )
        return CreatedKey(**_facts(ring, key), key=text)

    async def revoke_key(self, asked: Asked[Any, Any]) -> Key:
        """`DELETE /v1/keys/{key}`.

        Raises:
            Problem: this tenant has no such key.
            Rejected: several have that name.
            Unavailable: the registry is away.
        """
        ring = self._ring()
        key = await ring.revoke(asked.tenant, asked.part("key"))
        if key is None:
            raise Problem(404, "no_such_key", "There is no such key.")
        return Key(**_facts(ring, key))

    async def begin(self, asked: Asked[Any, SessionBody]) -> Response:
        """`POST /v1/session`.

        Raises:
            Problem: the key is not good, or another origin's page sent it.
            Unavailable: the registry is away.
        """
        request, auth = asked.request, self._deps.auth
        if auth is None:
            raise Problem(409, "no_sessions", "This gateway asks for no keys and has no sessions.")
        _check_own_page(request)
        recogniser: Recogniser = request.scope[RECOGNISER]
        known = await recognise(recogniser, auth.rates, request, asked.body.key)
        value, seconds = await recogniser.begin(known)
        caller = known.caller
        answer = encoded(
            Session(
                tenant=caller.tenant,
                name=caller.principal.name,
                role=caller.role,
                expires_in_s=seconds,
            ),
            201,
        )
        answer.set_cookie(COOKIE, value, max_age=seconds, **_flags(request))
        return answer

    async def end(self, asked: Asked[Any, Any]) -> Response:
        """`DELETE /v1/session`.

        Raises:
            Problem: another origin's page sent it.
        """
        _check_own_page(asked.request)
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, **_flags(asked.request))
        return answer

    def _ring(self) -> KeyRing:
        if self._deps.auth is None:
            raise Problem(409, "no_keys", "This gateway takes no API keys.")
        return self._deps.auth.keys


def _check_own_page(request: Request) -> None:
    """A session that another site's page began would be one of its choice."""
    if not from_own_page(request.headers, sure=False):
        raise Problem(403, "other_origin", "Only this gateway's own pages have sessions.")


def _flags(request: Request) -> dict[str, Any]:
    """How a cookie is kept: by no script, for no other site, and beyond this machine for TLS."""
    here = request.url.hostname in {host.strip("[]") for host in LOOPBACK_HOSTS}
    return {"path": "/", "httponly": True, "samesite": "strict", "secure": not here}


def _facts(ring: KeyRing, key: ApiKey) -> dict[str, Any]:
    facts = key.model_dump(exclude={"salt", "digest"})
    return facts | {"expired": not ring.is_current(key)}
