"""Headers and addresses of definitions with the values of secrets. Not where they are sent."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from urllib.parse import quote

from domain.errors import PeritusError
from domain.references import REFERENCE, filled, references_in
from domain.secrets import SecretRef, SecretValue
from services.tool.mcp.seam import NotOpened

Reveal = Callable[[SecretRef], Awaitable[SecretValue | None]]
"""The value of a secret as it is now; whoever offers it audits its use and hides its value."""

NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

OURS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "last-event-id",
        "mcp-protocol-version",
        "mcp-session-id",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""What the protocol says of itself: a definition that said otherwise would break it."""


async def resolved(
    headers: Mapping[str, str], reveal: Reveal, never: Collection[str]
) -> dict[str, str]:
    """The headers as they are sent. `never`: names of secrets that no tool is given.

    Raises:
        NotOpened: a name is none of a header, or a secret is missing or cannot be used.
    """
    return {name.lower(): await _value(name, text, reveal, never) for name, text in headers.items()}


async def addressed(endpoint: str, reveal: Reveal, never: Collection[str]) -> str:
    """The address of an endpoint with the secrets of its query in it.

    Raises:
        NotOpened: a secret is missing or cannot be used.
    """
    values = {
        name: quote(await secret(name, "the address of the server", reveal, never), safe="")
        for name in references_in(endpoint)
    }
    return filled(endpoint, values)


async def secret(ref: str, what: str, reveal: Reveal, never: Collection[str]) -> str:
    """The value of one secret that `what` needs.

    Raises:
        NotOpened: it is missing, or cannot be used.
    """
    if ref in never:
        message = f"{what} names the secret {ref}, which no tool is given"
        raise NotOpened(message)
    try:
        found = await reveal(SecretRef(name=ref))
    except PeritusError as error:
        message = f"the secret {ref} of {what} cannot be read: {error}"
        raise NotOpened(message) from None
    if found is None:
        message = f"{what} needs the secret {ref}, which is not set: `peritus secrets set {ref}`"
        raise NotOpened(message)
    return found.reveal()


async def _value(name: str, text: str, reveal: Reveal, never: Collection[str]) -> str:
    if NAME.fullmatch(name) is None:
        message = f"{name!r} is not the name of a header"
        raise NotOpened(message)
    if name.lower() in OURS:
        message = f"the header {name} is not for a definition to set"
        raise NotOpened(message)
    what = f"the header {name}"
    values = {ref: await secret(ref, what, reveal, never) for ref in references_in(text)}
    for ref, value in values.items():
        if not (value.isascii() and value.isprintable()):
            message = f"the secret {ref} cannot be sent in a header: it is not one line of ASCII"
            raise NotOpened(message)
    if "${" in REFERENCE.sub("", text):
        message = f"the header {name} holds a '${{' that is no reference to a secret"
        raise NotOpened(message)
    whole = filled(text, values)
    if not (whole.isascii() and whole.isprintable()):
        message = f"the header {name} is not one line of printable ASCII"
        raise NotOpened(message)
    return whole
