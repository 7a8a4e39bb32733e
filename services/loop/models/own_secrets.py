"""Secrets that a definition puts into the address and headers of a model. Not a provider's keys.

A choice only ever has their names (C15): the values are put in right before a connection is built.
"""

from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

from domain.limits import ModelChoice
from domain.references import filled, references_in

AUTHORIZATION = "Authorization"


def own_secrets(choice: ModelChoice) -> tuple[str, ...]:
    """The names of the secrets that a choice needs beside its provider's keys."""
    return references_in(choice.base_url or "", *choice.headers.values())


def with_own_secrets(choice: ModelChoice, values: Mapping[str, str]) -> ModelChoice:
    """The choice as its connection is built: not to be stored, and not to be shown.

    A user and a password in the address become the header that they mean, so that no message that
    names the address has them.
    """
    headers = {name: filled(value, values) for name, value in choice.headers.items()}
    if choice.base_url is None:
        return choice.model_copy(update={"headers": headers})
    parts = urlsplit(choice.base_url)
    login, found, host = parts.netloc.rpartition("@")
    if found and AUTHORIZATION.lower() not in {name.lower() for name in headers}:
        user, _, password = login.partition(":")
        pair = ":".join(filled(unquote(text), values) for text in (user, password))
        headers[AUTHORIZATION] = f"Basic {b64encode(pair.encode()).decode()}"
    address = urlunsplit(parts._replace(netloc=host))
    return choice.model_copy(update={"headers": headers, "base_url": address})
