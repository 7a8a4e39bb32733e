"""Names of hosts as requests spell them, and what a proxy is asked for. Not addresses or policy.

Nothing here resolves a name: what is refused here has told no name server anything.
"""

import re
from typing import NamedTuple

from services.sandbox.egress.refusals import Reason, Refused

NAME_MAX = 253
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label like this makes the whole a number in some notation of an address."""

AUTHORITY = re.compile(r"(?P<host>\[[^\[\]@/?#\\]*\]|[^\[\]@/?#\\:]*)(:(?P<port>[0-9]{1,5}))?")
ABSOLUTE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^/?#]*)(?P<path>[^#]*)")
BARE_V6 = re.compile(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*")
HTTP_PORT = 80


class Where(NamedTuple):
    """A host by its cleaned name, and a port."""

    host: str
    port: int


class Asked(NamedTuple):
    """What an absolute-form request is for: the host, and the target it is to be sent."""

    where: Where
    path: bytes


def clean_host(text: str) -> str:
    """The one spelling of a name: lower case, no trailing dot, ASCII letters, digits, `-`, `.`.

    Raises:
        Refused: it is no name, or an address in any notation.
    """
    if not text.isascii():
        raise Refused(Reason.BAD_NAME, text)
    name = text.lower().removesuffix(".")
    if name.startswith("[") or ":" in name:
        raise Refused(Reason.IP_LITERAL, text)
    labels = name.split(".")
    if len(name) > NAME_MAX or not all(map(LABEL.fullmatch, labels)):
        raise Refused(Reason.BAD_NAME, text)
    if NUMBER.fullmatch(labels[-1]):
        raise Refused(Reason.IP_LITERAL, text)
    return name


def authority(text: str, default_port: int | None = None) -> Where:
    """Read `host:port`; the port may be missing where there is a default.

    Raises:
        Refused: it is something else.
    """
    if "@" in text:
        raise Refused(Reason.USERINFO, text.rpartition("@")[2])
    found = AUTHORITY.fullmatch(text)
    if found is None:
        bare_v6 = BARE_V6.fullmatch(text)
        raise Refused(Reason.IP_LITERAL if bare_v6 else Reason.BAD_REQUEST, text)
    if found["port"] is None and default_port is None:
        raise Refused(Reason.BAD_REQUEST, text)
    port = int(found["port"] or default_port or 0)
    try:
        return Where(clean_host(found["host"]), port)
    except Refused as refused:
        refused.port = port
        raise


def connect_target(target: bytes) -> Where:
    """What a CONNECT asks for.

    Raises:
        Refused: it is not `name:port`.
    """
    return authority(_text(target))


def absolute_target(target: bytes) -> Asked:
    """What a request in absolute form asks for.

    Raises:
        Refused: it is not `http://name[:port]/...`.
    """
    text = _text(target)
    found = ABSOLUTE.fullmatch(text)
    if found is None:
        raise Refused(Reason.BAD_REQUEST)
    if found["scheme"].lower() != "http":
        raise Refused(Reason.SCHEME, found["rest"])
    path = found["path"]
    return Asked(
        authority(found["rest"], HTTP_PORT),
        (path if path.startswith("/") else f"/{path}").encode("ascii"),
    )


def _text(target: bytes) -> str:
    try:
        return target.decode("ascii")
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_NAME) from None


def shown(host: str) -> str:
    """A host as a row of the log may hold it, whatever was asked for."""
    return re.sub(r"[^A-Za-z0-9.:-]", "-", host)[:NAME_MAX] or "-"
