"""Variables of a definition: their values, and the texts they are put into. Not secrets."""

import re
from collections.abc import Mapping
from typing import cast

from domain.errors import Rejected
from peritus.definitions.fields import NAME_CHARS_MAX
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, did_you_mean, place
from peritus.definitions.schema import VariableTable

VALUE_CHARS_MAX = 20 * 1024
VARIABLES_MAX = 255

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
VARIABLE_NAME = re.compile(_NAME)
_PLACE = re.compile(rf"\{{\{{\{{\{{|\{{\{{(?:[ \t]*({_NAME})[ \t]*\}}\}})?")
"""An escape, a variable, or two braces that are neither: then group 1 is None."""
_ESCAPE = "{{{{"


def parse_variables(given: list[str] | None) -> dict[str, str]:
    """The variables of flags `NAME=VALUE`.

    Raises:
        Rejected: `bad_variable`: one is not of that form, or a name is given twice.
    """
    values: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or VARIABLE_NAME.fullmatch(name) is None:
            message = f"{text!r} is not NAME=VALUE, with a name of letters, digits, '_' and '-'"
            raise Rejected(code="bad_variable", message=message)
        if name in values:
            raise Rejected(code="bad_variable", message=f"variable {name!r} is given twice")
        values[name] = value
    return values


class Variables:
    """The variables of one definition. A value is put in as it is, and never looked into again."""

    def __init__(self, report: Report, values: Mapping[str, str | None], *, declared: bool) -> None:
        """With what was found; a value of None is still to be given.

        Where no variable is declared, braces are what they were to the seed: text.
        """
        self._report = report
        self._values = values
        self._declared = declared
        self._used: set[str] = set()

    @property
    def values(self) -> dict[str, str]:
        """What is put in, by name."""
        return {name: value for name, value in sorted(self._values.items()) if value is not None}

    def put_into(self, text: str, loc: Loc, chars_max: int) -> str:
        """A text with the values in it; what is wrong with it is reported at its place."""
        if "{{" not in text:
            return text
        if not self._declared:
            self._tell_plain(text, loc)
            return text
        whole = _PLACE.sub(lambda found: self._value(found, loc), text)
        if len(whole) > chars_max:
            message = f"{place(loc)} has {len(whole)} characters with its variables: "
            self._report.error(loc, f"{message}at most {chars_max} are allowed")
        return whole

    def check_used(self) -> None:
        """Tell of variables that are in no text."""
        for name in self._values:
            if name not in self._used:
                message = f"variable {name!r} is in no instruction, description or rule"
                self._report.notice(("variables", name), message)

    def _value(self, found: re.Match[str], loc: Loc) -> str:
        if found.group() == _ESCAPE:
            return "{{"
        name = found.group(1)
        if name is None:
            message = (
                f"{place(loc)}: '{{{{' begins a variable such as '{{{{name}}}}'; "
                f"two literal braces are written as '{_ESCAPE}'"
            )
            self._report.error(loc, message)
        elif name not in self._values:
            hint = did_you_mean(name, self._values) or "; declare it in [variables]"
            self._report.error(loc, f"{place(loc)}: unknown variable {name!r}{hint}")
        else:
            self._used.add(name)
            value = self._values[name]
            return found.group() if value is None else value
        return found.group()

    def _tell_plain(self, text: str, loc: Loc) -> None:
        names = [found.group(1) for found in _PLACE.finditer(text) if found.group(1)]
        if names:
            message = (
                f"{place(loc)}: '{{{{{names[0]}}}}}' stays as it is written, "
                "because no variable is declared in [variables]"
            )
            self._report.notice(loc, message)


def read_variables(
    report: Report, raw: Mapping[str, object], given: Mapping[str, str], *, open_allowed: bool
) -> Variables:
    """The variables of a file with the values that are given for them.

    Raises:
        Rejected: `unknown_variable` or `bad_variable`: a value is given that cannot be used.
    """
    _check_given(raw, given)
    if len(raw) > VARIABLES_MAX:
        report.error(("variables",), f"there may be {VARIABLES_MAX} variables")
    values: dict[str, str | None] = {}
    for name in sorted(raw):
        loc: Loc = ("variables", name)
        if VARIABLE_NAME.fullmatch(name) is None or len(name) > NAME_CHARS_MAX:
            message = f"{name!r} cannot name a variable: use letters, digits, '_' and '-'"
            report.error(loc, message)
        default = _default(report, raw[name], loc)
        values[name] = given.get(name, default)
        if values[name] is None and _is_required(raw[name]):
            message = f"variable {name!r} has no value: give it with --var {name}=VALUE"
            (report.notice if open_allowed else report.error)(loc, message)
    return Variables(report, values, declared=bool(raw))


def _check_given(raw: Mapping[str, object], given: Mapping[str, str]) -> None:
    for name, value in given.items():
        if name not in raw:
            hint = did_you_mean(name, raw) or "; declare it in [variables]"
            raise Rejected(code="unknown_variable", message=f"unknown variable {name!r}{hint}")
        if len(value) > VALUE_CHARS_MAX:
            message = f"the value of variable {name!r} has more than {VALUE_CHARS_MAX} characters"
            raise Rejected(code="bad_variable", message=message)
        try:
            value.encode()
        except UnicodeEncodeError:
            message = f"the value of variable {name!r} is not Unicode text"
            raise Rejected(code="bad_variable", message=message) from None


def _default(report: Report, raw: object, loc: Loc) -> str | None:
    if isinstance(raw, str):
        default: str | None = raw
    elif isinstance(raw, dict):
        table = report.read(VariableTable, cast("dict[str, object]", raw), loc)
        if table is None:
            return None
        default = table.default
        if table.required == (default is not None):
            message = f"{place(loc)} needs one of 'default' and required = true"
            report.error(loc, message)
    else:
        report.error(loc, f"{place(loc)} must be a text, or a table with 'default' or 'required'")
        return None
    if default is not None and len(default) > VALUE_CHARS_MAX:
        report.error(loc, f"{place(loc)} has more than {VALUE_CHARS_MAX} characters")
    return default


def _is_required(raw: object) -> bool:
    return isinstance(raw, dict) and cast("dict[str, object]", raw).get("required") is True
