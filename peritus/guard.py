"""How the gateway of this process recognises callers: settings made into parts. Not the checks.

Whoever may read the state folder is an administrator here anyway, so the gateway makes a key for
him there, and clients on this machine find it.
"""

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from domain.errors import Rejected
from eventlog.port import Backbone
from peritus.ids import now_ms
from peritus.logs import REDACTIONS
from peritus.settings import Settings

if TYPE_CHECKING:
    from gateway.auth import Auth
    from gateway.auth.issuer import Issuer
    from gateway.auth.keys import KeyRing
    from gateway.auth.sessions import Sessions

KEY_FILE = "gateway.key"
KEY_BYTES = 32
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
OTHERS = 0o077
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Guard:
    """What a gateway takes. `key_file`: where its own key is, if it made one."""

    token: str | None
    auth: "Auth | None"
    key_file: Path | None = None


def check_guard(settings: Settings) -> None:
    """See that the settings of the gateway go together.

    Raises:
        Rejected: it would be open to others, or an issuer is half described.
    """
    if settings.gateway_auth == "none":
        if settings.gateway_host not in LOOPBACK:
            message = (
                f"PERITUS_GATEWAY_HOST {settings.gateway_host!r} is reachable from other machines: "
                "leave PERITUS_GATEWAY_AUTH out, or listen on 127.0.0.1"
            )
            raise Rejected("bad_setting", message)
        named = (settings.gateway_token, settings.gateway_jwt_issuer)
        if any(one is not None for one in named):
            message = (
                "PERITUS_GATEWAY_AUTH none asks for no credential: leave it out, or leave out "
                "PERITUS_GATEWAY_TOKEN and PERITUS_GATEWAY_JWT_ISSUER"
            )
            raise Rejected("bad_setting", message)
    issuer, audience = settings.gateway_jwt_issuer, settings.gateway_jwt_audience
    if (issuer is None) != (audience is None):
        message = "PERITUS_GATEWAY_JWT_ISSUER and PERITUS_GATEWAY_JWT_AUDIENCE go together"
        raise Rejected("bad_setting", message)
    if issuer is not None:
        from gateway.auth.issuer import fit  # noqa: PLC0415 - for those who have one

        if not fit(issuer):
            message = "PERITUS_GATEWAY_JWT_ISSUER must be an address that begins with https://"
            raise Rejected("bad_setting", message)


def guard_of(settings: Settings, state: Path, backbone: Backbone) -> Guard:
    """The parts; a key is made where there is no token.

    Raises:
        Rejected: the settings do not go together, or the key's file cannot be used.
    """
    from gateway.auth.means import Auth  # noqa: PLC0415 - HTTP is for the gateway alone
    from gateway.auth.rates import Rates  # noqa: PLC0415

    check_guard(settings)
    if settings.gateway_auth == "none":
        return Guard(None, None)
    auth = Auth(
        keys=key_ring(backbone),
        sessions=sessions_of(backbone),
        issuer=_issuer(settings),
        rates=Rates(settings.gateway_rate, time.monotonic) if settings.gateway_rate else None,
        origins=frozenset(settings.gateway_cors_origins),
    )
    if settings.gateway_token is not None:
        return Guard(settings.gateway_token.get_secret_value(), auth)
    file = state / KEY_FILE
    key = local_key(file)
    REDACTIONS.add(KEY_FILE, key)
    return Guard(key, auth, file)


def key_ring(backbone: Backbone) -> "KeyRing":
    """The API keys of the deployment."""
    from gateway.auth.keys import KeyRing  # noqa: PLC0415 - HTTP is for the gateway alone

    return KeyRing(backbone.registry, now_ms=now_ms, now_s=time.monotonic)


def sessions_of(backbone: Backbone) -> "Sessions":
    """The sessions of the deployment."""
    from gateway.auth.sessions import Sessions  # noqa: PLC0415 - HTTP is for the gateway alone

    return Sessions(backbone.registry, now_ms=now_ms, now_s=time.monotonic)


def local_key(file: Path) -> str:
    """The key in that file, which only its owner can read; made if there is none.

    Raises:
        Rejected: others can read it, or it cannot be read or written.
    """
    try:
        if not file.exists():
            _make(file)
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, encoding="ascii") as opened:
            open_to = os.fstat(opened.fileno()).st_mode & OTHERS
            key = opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"the gateway's key {str(file)!r} cannot be used: {error}"
        raise Rejected("bad_key_file", message) from None
    if open_to or not key:
        message = (
            f"{str(file)!r} is empty or can be read by others: remove it, and a new one is made"
        )
        raise Rejected("bad_key_file", message)
    return key


def _make(file: Path) -> None:
    """Write a new key. Of gateways that begin at the same time, one's counts."""
    file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as opened:
            opened.write(f"{secrets.token_urlsafe(KEY_BYTES)}\n")
            opened.flush()
            os.fsync(opened.fileno())
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _issuer(settings: Settings) -> "Issuer | None":
    if settings.gateway_jwt_issuer is None or settings.gateway_jwt_audience is None:
        return None
    from gateway.auth.issuer import Issuer, IssuerSettings  # noqa: PLC0415 - for who has one

    return Issuer(
        IssuerSettings(
            settings.gateway_jwt_issuer,
            settings.gateway_jwt_audience,
            settings.gateway_jwt_tenant_claim,
            settings.gateway_jwt_role_claim,
        ),
        now_ms=now_ms,
        now_s=time.monotonic,
    )
