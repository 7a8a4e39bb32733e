"""Who may come in: lets a request pass with its caller, or answers it. Not what callers may do.

A credential is in the `Authorization` header, or a session's cookie. Without any, on loopback, the
right host name is what keeps other sites' pages out.
"""

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import Unavailable
from domain.events import Principal
from gateway.auth.answering import Answering
from gateway.auth.means import Auth
from gateway.auth.rates import Rate, Rates, address_of
from gateway.auth.recognise import Known, Recogniser
from gateway.callers import Caller, put_caller
from gateway.problems import Problem, problem_of

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/v1/healthz"})
JSON_TYPE = "application/json"
RAW_PATHS = frozenset({"/v1/uploads"})
"""Where what is sent is content of any type."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
BODILESS = SAFE | {"DELETE"}
RECOGNISER = "peritus.recogniser"
"""Where the scope of a request has what checks credentials: for who makes sessions."""


def whoever(connection: HTTPConnection) -> Caller:
    """The caller where there are no tenants."""
    name = "token" if "authorization" in connection.headers else "loopback"
    return Caller("default", Principal(name=name, via="http"))


class Gate:
    """Lets a request in, or answers it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: frozenset[str],
        auth: Auth | None = None,
        home: Callable[[HTTPConnection], Caller] = whoever,
        open_paths: frozenset[str] = OPEN_PATHS,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._home = home
        self._open = open_paths
        self._recogniser = Recogniser(token=token, auth=auth, home=home)
        self._rates = None if auth is None else auth.rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            known = await self._admit(connection)
        except (Problem, Unavailable) as error:
            await problem_of(error).response()(scope, receive, send)
            return
        scope[RECOGNISER] = self._recogniser
        if known is None:
            await self._app(scope, receive, send)
            return
        put_caller(scope, known.caller)
        more = None if self._rates is None else self._rates.callers.headers(_who(known.caller))
        await self._app(scope, receive, Answering(send, self._recogniser, known, more))

    async def _admit(self, connection: HTTPConnection) -> Known | None:
        """Who comes in; None where nobody is asked.

        Raises:
            Problem: nobody does.
            Unavailable: whoever has to be asked about a credential is away.
        """
        headers = connection.headers
        if not self._recogniser.guarded and _name_of(headers.get("host", "")) not in self._hosts:
            raise Problem(421, "wrong_host", "This gateway does not answer under that host name.")
        if connection.scope["path"] in self._open:
            _check_type(connection)
            return None
        if self._recogniser.guarded:
            known = await recognise(self._recogniser, self._rates, connection)
        else:
            known = Known(self._home(connection), "token", ambient=True)
        if self._rates is not None:
            who = _who(known.caller)
            if not self._rates.callers.take(who):
                raise _too_many("rate_limited", "This caller asks too often.", self._rates, who)
        _check_type(connection)
        if known.ambient and connection.scope["method"] not in SAFE:
            self._check_page(headers)
        return known

    def _check_page(self, headers: Headers) -> None:
        """Let no other page change what a browser adds the credential to by itself.

        Raises:
            Problem: it may be one. Where nobody is asked, pages of this machine's names are not.
        """
        if self._recogniser.guarded:
            good = from_own_page(headers, sure=True)
        else:
            origin = headers.get("origin")
            here = origin is None or _name_of(urlsplit(origin).netloc) in self._hosts
            good = here and headers.get("sec-fetch-site") != "cross-site"
        if not good:
            detail = "A session, or a gateway without keys, takes changes from its own pages only."
            raise Problem(403, "other_origin", detail)


async def recognise(
    recogniser: Recogniser, rates: Rates | None, connection: HTTPConnection, text: str | None = None
) -> Known:
    """Who asks: by a text, or by what the request carries.

    Raises:
        Problem: nobody that is known here, or too much has failed from there.
        Unavailable: whoever has to be asked is away.
    """
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    bearer = text if text is not None else given.strip() if scheme.lower() == "bearer" else ""
    where = address_of(connection.scope.get("client"))
    wary = rates is not None and rates.failures.left(where) < 1
    if bearer:
        known = await recogniser.bearer(connection, bearer, wary=wary)
    elif scheme:
        known = None
    else:
        known = await recogniser.cookie(connection)
        if known is None:
            raise _unauthorized()
    if known is not None:
        return known
    if rates is not None and not rates.failures.take(where):
        detail = "Too many credentials were refused from there."
        raise Problem(429, "rate_limited", detail, headers=_retry(rates.failures, where))
    logger.info("a credential that is not good came from %s", where)
    raise _unauthorized()


def _unauthorized() -> Problem:
    """The same answer to all that is not good: it tells nothing of what there is."""
    return Problem(401, "unauthorized", "A valid credential is needed: see docs/gateway-auth.md.")


def _check_type(connection: HTTPConnection) -> None:
    """Let pages of other origins send nothing without asking first: they can send other types.

    Raises:
        Problem: what is sent is not JSON.
    """
    if connection.scope["method"] in BODILESS or connection.scope["path"] in RAW_PATHS:
        return
    media_type = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON_TYPE:
        raise Problem(415, "not_json", f"Send the content type {JSON_TYPE}.")


def from_own_page(headers: Headers, *, sure: bool) -> bool:
    """Whether a request comes from a page of this gateway; with `sure`, it has to say so."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin" or (site == "none" and not sure)
    if origin is not None:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    return not sure


def _too_many(code: str, detail: str, rates: Rates, who: str) -> Problem:
    headers = {**rates.callers.headers(who), **_retry(rates.callers, who)}
    return Problem(429, code, detail, headers=headers)


def _retry(rate: Rate, who: str) -> dict[str, str]:
    return {"Retry-After": str(rate.wait_s(who))}


def _who(caller: Caller) -> str:
    return f"{caller.tenant}/{caller.principal.name}"


def _name_of(host: str) -> str:
    """The name of a host without its port."""
    if host.endswith("]"):
        return host
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdecimal() else host.lower()
