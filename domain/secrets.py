"""Secrets by name, and values that nothing prints by accident. Not where they come from."""

import re
from typing import NoReturn

from domain.record import Record

SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
"""What may name a secret: also the name of the variable that asks for it."""


class SecretRef(Record):
    """A secret by name: all that definitions, commands and events ever hold of it (C15).

    `version` pins one value of it; "" is whatever is current when it is used.
    """

    name: str
    version: str = ""


class SecretValue:
    """The value of a secret on its way to the one place that may use it.

    Nothing shows it by accident: no text form, no pickle, no JSON, no comparison but by identity.
    """

    __slots__ = ("_value", "ref")

    def __init__(self, ref: SecretRef, value: str) -> None:
        self.ref = ref
        self._value = value

    def reveal(self) -> str:
        """The value itself. Every caller is a place to look at in a review."""
        return self._value

    def __repr__(self) -> str:
        return f"[secret:{self.ref.name}]"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> NoReturn:
        msg = f"secret {self.ref.name!r} cannot be pickled or copied"
        raise TypeError(msg)
