"""Money and durations as people write them, in whole micro-USD and milliseconds. Not limits."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo

from domain.errors import Rejected

MICRO = 1_000_000
USD_MAX = 1_000_000_000
DURATION_MS_MAX = 10 * 366 * 24 * 3_600_000  # ten years

PLAIN = object()
"""Validation context under which amounts are in micro-USD and ms already."""

_DECIMAL = re.compile(r"\d{1,10}(?:\.\d{1,18})?", re.ASCII)
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d{1,12}) ?(ms|s|m|h|d)", re.ASCII)
_DURATION = re.compile(rf"{_PART.pattern}(?: ?{_PART.pattern})*", re.ASCII)


def micro_usd(value: object) -> int:
    """US dollars as whole micro-USD, exactly: from a text such as `2.50`, or a number.

    A number with a fraction counts as the decimal it was written as, not as its binary form.

    Raises:
        ValueError: it is no such amount, or finer than a millionth of a dollar.
    """
    amount = _decimal(value)
    if amount is None:
        message = f"{value!r} must be US dollars, such as '2.50', without a sign or a unit"
        raise ValueError(message)
    if amount > USD_MAX:
        message = f"{value!r} is more than {USD_MAX} US dollars"
        raise ValueError(message)
    micro = amount * MICRO
    if micro != micro.to_integral_value():
        message = f"{value!r} is finer than a millionth of a dollar"
        raise ValueError(message)
    return int(micro)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and _DECIMAL.fullmatch(value) is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and not amount.is_signed() else None


def usd(micro: int) -> str:
    """Micro-USD as dollars, with at least two places and no more than are needed."""
    whole, fraction = divmod(micro, MICRO)
    digits = f"{fraction:06d}".rstrip("0")
    return f"{whole}.{digits:0<2}"


def duration_ms(value: object) -> int:
    """A text such as `90s` or `1h 30m` as milliseconds.

    Raises:
        ValueError: it is no such text, or longer than ten years.
    """
    if not isinstance(value, str) or _DURATION.fullmatch(value) is None:
        message = f"{value!r} must be a text with units, such as '90s' or '1h 30m' (ms, s, m, h, d)"
        raise ValueError(message)
    ms = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(value))
    if ms > DURATION_MS_MAX:
        message = f"{value!r} is longer than ten years"
        raise ValueError(message)
    return ms


def parse_usd(text: str | None) -> int | None:
    """The amount of a flag; None if it is not given.

    Raises:
        Rejected: `bad_limit`.
    """
    return None if text is None else _parse(micro_usd, text)


def parse_duration(text: str | None) -> int | None:
    """The duration of a flag; None if it is not given.

    Raises:
        Rejected: `bad_limit`.
    """
    return None if text is None else _parse(duration_ms, text)


def _parse(read: Callable[[object], int], text: str) -> int:
    try:
        return read(text)
    except ValueError as error:
        raise Rejected(code="bad_limit", message=str(error)) from None


def _usd(value: object, info: ValidationInfo) -> object:
    return value if info.context is PLAIN else micro_usd(value)


def _duration(value: object, info: ValidationInfo) -> object:
    return value if info.context is PLAIN else duration_ms(value)


def _none(value: object) -> object:
    return None if value == "none" else value


Usd = Annotated[int, BeforeValidator(_usd), Field(ge=0)]
Duration = Annotated[int, BeforeValidator(_duration), Field(ge=1)]
DurationOrNone = Annotated[Duration | None, BeforeValidator(_none)]
"""A duration, or `none`: without an end."""
