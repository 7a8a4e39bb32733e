"""Who comes with a credential, of whichever kind. Not whether he may: roles say that."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from starlette.requests import HTTPConnection

from domain.events import Principal
from gateway.auth.keys import KEY, MARK
from gateway.auth.means import Auth
from gateway.auth.sessions import COOKIE, Origin, Session
from gateway.callers import Caller

CREDENTIAL_CHARS_MAX = 8_192
OWN_SITES = frozenset({"same-origin", "none"})
"""What a browser says of requests that our own pages make, or a person himself."""

JWT_DOTS = 2


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody who was recognised: what by, and until when that is good."""

    caller: Caller
    made_from: Origin
    of: str = ""
    expires_at_ms: int | None = None
    ambient: bool = False
    """Whether a browser sends it along by itself, whoever's page asks."""
    session: str = field(default="", repr=False)
    """The cookie's value, where it came as one."""


class Recogniser:
    """Checks what one gateway takes. `home` is whose the one token is."""

    def __init__(
        self, *, token: str | None, auth: Auth | None, home: Callable[[HTTPConnection], Caller]
    ) -> None:
        self._token = token
        self._auth = auth
        self._home = home

    @property
    def guarded(self) -> bool:
        """Whether a credential is asked for."""
        return self._token is not None or self._auth is not None

    async def bearer(
        self, connection: HTTPConnection, text: str, *, wary: bool = False
    ) -> Known | None:
        """Who that text stands for; None: nobody, for whatever reason.

        `wary`: much has failed from there, so what can be guessed does not count, and nobody is
        asked about keys that are not known here.

        Raises:
            Unavailable: whoever has to be asked is away.
        """
        if not 0 < len(text) <= CREDENTIAL_CHARS_MAX:
            return None
        if self._token is not None and not wary and _same(text, self._token):
            by = Principal(name="token", via="http")
            return Known(replace(self._home(connection), principal=by), "token")
        if self._auth is None:
            return None
        if text.startswith(f"{MARK}_") and KEY.fullmatch(text):
            key = await self._auth.keys.check(text, seen_only=wary)
            return None if key is None else Known(key.caller, "key", key.id, key.expires_at_ms)
        if self._auth.issuer is not None and text.count(".") == JWT_DOTS:
            vouched = await self._auth.issuer.check(text)
            if vouched is not None:
                return Known(vouched.caller, "issuer", "", vouched.expires_at_ms)
        return None

    async def cookie(self, connection: HTTPConnection) -> Known | None:
        """Who a session stands for; None: nobody, or another site's page sent it.

        Raises:
            Unavailable: the registry is away.
        """
        value = connection.cookies.get(COOKIE)
        site = connection.headers.get("sec-fetch-site", "none")
        if self._auth is None or not value or site not in OWN_SITES:
            return None
        session = await self._auth.sessions.open(value)
        caller = None if session is None else await self._still(connection, session)
        if session is None or caller is None:
            return None
        by = caller.principal.model_copy(update={"via": "session"})
        known = Known(replace(caller, principal=by), session.made_from, session.of, ambient=True)
        return replace(known, expires_at_ms=session.expires_at_ms, session=value)

    async def still(self, known: Known) -> bool:
        """Whether what somebody came with is good yet.

        Raises:
            Unavailable: the registry is away.
        """
        if self._auth is None:
            return True
        ends_ms = known.expires_at_ms
        if ends_ms is not None and self._auth.sessions.is_past(ends_ms):
            return False
        if known.session and await self._auth.sessions.open(known.session) is None:
            return False  # all sessions were ended
        return known.made_from != "key" or await self._auth.keys.find(known.of) is not None

    async def begin(self, known: Known) -> tuple[str, int]:
        """A session of somebody: its cookie's value and how many seconds it lasts.

        Raises:
            Unavailable: the registry is away.
        """
        assert self._auth is not None  # noqa: S101 - without it there is nothing to sign with
        sessions, caller = self._auth.sessions, known.caller
        of = known.of
        if known.made_from == "token":
            of = await sessions.mark(self._token or "")
        session = Session(
            made_from=known.made_from,
            of=of,
            tenant=caller.tenant,
            name=caller.principal.name,
            role=caller.role,
            experts=None if caller.experts is None else tuple(sorted(caller.experts)),
            expires_at_ms=sessions.ends_ms(known.expires_at_ms),
        )
        return await sessions.seal(session), sessions.seconds_left(session)

    async def _still(self, connection: HTTPConnection, session: Session) -> Caller | None:
        """Whom a session stands for now: what it was made from may have been taken back."""
        assert self._auth is not None  # noqa: S101 - `cookie` looked
        if session.made_from == "key":
            key = await self._auth.keys.find(session.of)
            return None if key is None else key.caller
        if session.made_from == "token":
            mark = await self._auth.sessions.mark(self._token or "")
            good = self._token is not None and _same(session.of, mark)
            by = Principal(name=session.name)
            return replace(self._home(connection), principal=by) if good else None
        if self._auth.issuer is None:
            return None
        experts = None if session.experts is None else frozenset(session.experts)
        return Caller(session.tenant, Principal(name=session.name), session.role, experts)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
