"""What a gateway recognises callers by, put together. Not how each is checked."""

from dataclasses import dataclass

from gateway.auth.issuer import Issuer
from gateway.auth.keys import KeyRing
from gateway.auth.rates import Rates
from gateway.auth.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Auth:
    """All but the one token there may be.

    `origins` are those whose pages may ask, as browsers write them; their cookies never count.
    """

    keys: KeyRing
    sessions: Sessions
    issuer: Issuer | None = None
    rates: Rates | None = None
    origins: frozenset[str] = frozenset()
