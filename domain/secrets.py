"""Secrets by name, and values that nothing prints by accident. Not where they come from."""

import re
from collections.abc import Callable
from typing import NoReturn

from domain.record import Record

SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""What may name a secret: also the name of the variable that asks for it."""

SECRET_CHARS_MIN = 6
"""Shorter values are not kept: they are in too many texts by chance to be hidden everywhere."""

SECRET_BYTES_MAX = 64 * 1024


class SecretRef(Record):
    """A secret by name: all that definitions, commands and events ever hold of it (C15).

    `version` pins one value of it; "" is whatever is current when it is used.
    """

    name: str
    version: str = ""


class SecretAccess(Record):
    """Who asked for a secret, and what for: a line of the audit. Never the value.

    `source` is where it was found, "" when it was not; `version` is "" where there are none.
    """

    name: str
    version: str
    source: str
    purpose: str
    tenant: str = ""
    job: str = ""
    run: str = ""


Audit = Callable[[SecretAccess], None]
"""Hears of every use of a secret."""


class SecretValue:
    """The value of a secret on its way to the one place that may use it.

    Nothing shows it by accident: no text form, no pickle, no copy, no JSON, no comparison but by
    identity. `ref` has the version it is of, where its source has versions.
    """

    __slots__ = ("_value", "ref", "source")

    def __init__(self, ref: SecretRef, value: str, source: str = "") -> None:
        """`source` says where it was found, for people."""
        self.ref = ref
        self.source = source
        self._value = value

    def reveal(self) -> str:
        """The value itself. Every caller is a place to look at in a review."""
        return self._value

    def __repr__(self) -> str:
        return marker(self.ref.name)

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        msg = f"secret {self.ref.name!r} cannot be pickled or copied"
        raise TypeError(msg)


def marker(name: str) -> str:
    """What stands where the value of a secret was."""
    return f"[secret:{name}]"


def unfit(name: str, value: str) -> str | None:
    """Why a value cannot be kept as a secret, in plain words; None when it can."""
    if len(value) < SECRET_CHARS_MIN:
        return (
            f"it has {len(value)} characters: one shorter than {SECRET_CHARS_MIN} cannot be told "
            "from ordinary text, so it could not be hidden"
        )
    if len(value.encode("utf-8", "replace")) > SECRET_BYTES_MAX:
        return f"it has more than {SECRET_BYTES_MAX} bytes"
    if "\0" in value:
        return "it holds a zero byte, which no variable can"
    if value in marker(name):
        return f"it is a part of {marker(name)}, which stands where a value was"
    return None
