"""What clients may ask for behind a `?`, name by name. Not the bodies: `bodies` has those."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from eventlog.port import Cursor
from gateway.bodies import field_errors, invalid
from projections.queries import LIMIT_DEFAULT, LIMIT_MAX
from projections.queries.paging import Asked as Page

NUMBER_DIGITS_MAX = 18
POSITION_PATTERN = r"^[0-9a-f]{1,32}-[0-9]{1,18}-[0-9]{1,9}$"
MANY = (list, tuple, frozenset)


class Query(BaseModel):
    """Parameters with these names and no others. One that is a list may be repeated."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _number(value: object) -> object:
    """Digits alone: no signs, no spaces, no fractions."""
    if isinstance(value, str):
        plain = value.isascii() and value.isdecimal() and len(value) <= NUMBER_DIGITS_MAX
        return int(value) if plain else None
    return value


def _flag(value: object) -> object:
    return {"1": True, "true": True, "0": False, "false": False}.get(str(value).lower(), value)


NUMBER = BeforeValidator(_number)
"""Makes a parameter a number; bounds come before it, so that the schema has them."""

Number = Annotated[int, Field(ge=0), NUMBER]
"""A number that is not negative."""

Flag = Annotated[bool, BeforeValidator(_flag)]
"""`1` or `true`, `0` or `false`."""


class Reading(Query):
    """A question to a view."""

    min_position: str | None = Field(default=None, pattern=POSITION_PATTERN)
    """Answer when the view is there: the `position` of a write, or the id of an event."""

    @property
    def position(self) -> Cursor | None:
        """The same as a cursor.

        Raises:
            Problem: it is none.
        """
        if self.min_position is None:
            return None
        cursor = Cursor.parse(self.min_position)
        if cursor is None:
            raise invalid("min_position", "is not a position")
        return cursor


class Listing(Reading):
    """A question for a part of a list."""

    limit: Annotated[int, Field(ge=1), NUMBER] | None = None
    """How many at most; a number above the largest that is answered means that one."""
    cursor: str | None = Field(default=None, max_length=400)
    """`next_cursor` of the answer before."""

    @property
    def page(self) -> Page:
        """The same as views are asked."""
        return Page(min(self.limit or LIMIT_DEFAULT, LIMIT_MAX), self.cursor)


def separated(known: Sequence[str]) -> Callable[[list[str]], list[str]]:
    """Takes names that are repeated, or stand with commas between them, and are known."""

    def read(given: list[str]) -> list[str]:
        names = [name for text in given for name in text.split(",")]
        if not set(names) <= set(known):
            message = f"there are: {', '.join(known)}"
            raise ValueError(message)
        return names

    return read


def number_of(cursor: str | None) -> int | None:
    """What a cursor that is a number says.

    Raises:
        Problem: it is another cursor, or none.
    """
    if cursor is None:
        return None
    number = _number(cursor)
    if not isinstance(number, int) or number == 0:
        raise invalid("cursor", "is none of this list")
    return number


QueryT = TypeVar("QueryT", bound=BaseModel)


def read_query(given: QueryParams, kind: type[QueryT]) -> QueryT:
    """The parameters of a request.

    Raises:
        Problem: they are not what may be asked for: every wrong one is named.
    """
    lists, raw = _lists_of(kind), dict[str, Any]()
    for name, value in given.multi_items():
        if name in lists:
            raw.setdefault(name, []).append(value)
        elif name in raw:
            raise invalid(name if name in _names_of(kind) else "query", "is given twice")
        else:
            raw[name] = value
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise field_errors(kind, error, what="parameter") from None


@cache
def _names_of(kind: type[BaseModel]) -> frozenset[str]:
    return frozenset(info.alias or name for name, info in kind.model_fields.items())


@cache
def _lists_of(kind: type[BaseModel]) -> frozenset[str]:
    """The parameters that may be repeated."""
    return frozenset(
        info.alias or name
        for name, info in kind.model_fields.items()
        if any(get_origin(one) in MANY for one in (info.annotation, *get_args(info.annotation)))
    )
