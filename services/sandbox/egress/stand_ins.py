"""Stand-ins for secrets: made here, swapped for the values in request heads. Not where values are.

A sandbox only ever holds the stand-in. It is as long as the value, so that nothing that counts
bytes notices, and it is worth something only on its own sandbox's way to the secret's own hosts.
"""

import base64
import binascii
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

from domain.sandbox import SecretGrant, covers
from domain.secrets import SECRET_CHARS_MIN, SecretValue
from services.sandbox.egress.http import Headers

VALUE_BYTES_MAX = 4096
"""No header of that length gets far; and every answer is searched for all of it."""

ALPHABET = string.ascii_letters + string.digits
FIT = re.compile(rb"[\x21-\x7e\x80-\xff]([\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
"""What the value of a header may be (RFC 9110)."""

UNTOUCHED = frozenset({b"host", b"content-length", b"transfer-encoding"})
BASIC = b"basic "


@dataclass(frozen=True, slots=True, repr=False)
class StandIn:
    """What a sandbox holds instead of a secret, the secret, and the hosts it is swapped for."""

    grant: SecretGrant
    token: bytes
    secret: SecretValue

    @property
    def value(self) -> bytes:
        """What goes out to the secret's hosts."""
        return self.secret.reveal().encode()

    def is_for(self, host: str) -> bool:
        """Whether the value may go to a host."""
        return any(covers(pattern, host) for pattern in self.grant.hosts)


def unfit(secret: SecretValue | None) -> str:
    """Why a secret cannot be put in at egress; "" when it can. Says nothing about its value."""
    if secret is None:
        return "it is not set"
    value = secret.reveal().encode()
    if len(secret.reveal()) < SECRET_CHARS_MIN:
        return f"it is shorter than {SECRET_CHARS_MIN} characters"
    if len(value) > VALUE_BYTES_MAX:
        return f"it is longer than {VALUE_BYTES_MAX} bytes"
    return "" if FIT.fullmatch(value) else "it does not fit into a header"


def new_token(secret: SecretValue) -> str:
    """A text nobody can guess, as long as the value."""
    length = len(secret.reveal().encode())
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def put_in(headers: Headers, stand_ins: Sequence[StandIn]) -> tuple[Headers, tuple[str, ...]]:
    """The headers with values instead of stand-ins, and the names of the secrets in them."""
    used: dict[str, None] = {}
    swapped: Headers = []
    for name, value in headers:
        new = value
        if name not in UNTOUCHED:
            for stand_in in stand_ins:
                after = _swap(new, stand_in)
                if after != new:
                    used[stand_in.grant.name] = None
                new = after
        swapped.append((name, new))
    return swapped, tuple(used)


def _swap(value: bytes, stand_in: StandIn) -> bytes:
    if stand_in.token in value:
        return value.replace(stand_in.token, stand_in.value)
    if not value.lower().startswith(BASIC):
        return value
    try:
        pair = base64.b64decode(value[len(BASIC) :].strip(), validate=True)
    except binascii.Error:
        return value
    if stand_in.token not in pair:
        return value
    return value[: len(BASIC)] + base64.b64encode(pair.replace(stand_in.token, stand_in.value))
