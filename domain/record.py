"""The base of every record of the domain: frozen, closed, plain JSON. Not a persistence layer."""

import hashlib
from typing import Annotated, Any

import pydantic_core
from pydantic import AfterValidator, BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value with no unknown fields; a change is a new value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def clean(text: str) -> str:
    """The text without lone surrogates: they have no UTF-8 form, so no log could hold them."""
    if text.isascii():
        return text
    return text.encode("utf-8", errors="replace").decode()


Clean = Annotated[str, AfterValidator(clean)]
"""A string from outside: whatever a model or a tool says, it can be stored."""


def canonical(value: Any) -> bytes:  # noqa: ANN401 - any JSON value or record
    """The one byte form of a JSON value or record, used wherever bytes are hashed.

    Field order of records is their declaration order and is part of the form; mappings whose order
    carries no meaning are sorted by whoever builds them.
    """
    return pydantic_core.to_json(value)


def digest_of(data: bytes) -> str:
    """The content address of some bytes: lower-case hex of SHA-256 (64 characters)."""
    return hashlib.sha256(data).hexdigest()
