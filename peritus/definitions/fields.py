"""What single values of a definition file may look like. Not which keys there are."""

import ipaddress
import json
import re
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from domain.limits import Reasoning
from domain.sandbox import MIB
from domain.schemas import schema_fault
from domain.topology import KEY_CHARS_MAX, SEMVER

# Characters, not bytes: what the seed counted, and twenty pages are twenty pages in any script.
INSTRUCTION_CHARS_MAX = 20 * 1024
DESCRIPTION_CHARS_MAX = 2 * 1024
RULE_CHARS_MAX = 2 * 1024
ENDPOINT_CHARS_MAX = 2 * 1024
SCHEMA_CHARS_MAX = 20 * 1024
NAME_CHARS_MAX = 255
ITEMS_MAX = 255
MEMORY_BYTES_MIN = 16 * MIB  # below, not even a shell starts in a sandbox
TAGS_MAX = 8

HEADERS_MAX = 64
HEADER_CHARS_MAX = 4 * 1024
STOPS_MAX = 16
WHOLE_MAX = 2**53 - 1  # the largest whole number that every reader of JSON keeps
TAG = re.compile(r"[a-z0-9][a-z0-9_-]*")
VARIABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_SIZE = re.compile(r"(\d{1,12}) ?([KMGT]iB)", re.ASCII)
_UNITS = {unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_LABEL_ONLY = re.compile(_LABEL)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_DAY = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._/-]*(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?", re.ASCII)
_LEVELS = ("none", "minimal", "low", "medium", "high")


def _semver(value: str) -> str:
    if SEMVER.fullmatch(value) is None:
        message = f"{value!r} is not a version such as '1.0.0'"
        raise ValueError(message)
    return value


def _tag(value: str) -> str:
    if TAG.fullmatch(value) is None:
        message = f"{value!r} must be lower-case letters, digits, '-' or '_'"
        raise ValueError(message)
    return value


def _variable(value: str) -> str:
    if VARIABLE.fullmatch(value) is None:
        message = f"{value!r} is not the name of an environment variable"
        raise ValueError(message)
    return value


def _domain(value: str) -> str:
    """A host, or all hosts below one; punycode is refused because it can look like another name."""
    labels = value.lower().split(".")
    if _DOMAIN.fullmatch(value) is None or any(label.startswith("xn--") for label in labels):
        message = f"{value!r} must be a host such as 'example.com' or '*.example.com', in ASCII"
        raise ValueError(message)
    if labels[-1].isdecimal():
        message = f"{value!r} is an address; name the host, commands reach no bare addresses"
        raise ValueError(message)
    return value


def _size(value: object) -> object:
    """Bytes, from a number or from a text such as `512MiB`."""
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value)
    if found is None:
        message = f"{value!r} must be bytes, or a text such as '512MiB' (KiB, MiB, GiB or TiB)"
        raise ValueError(message)
    return int(found[1]) * _UNITS[found[2]]


def _image(value: str) -> str:
    if _IMAGE.fullmatch(value) is None:
        message = f"{value!r} is not an image such as 'python@sha256:...' or 'team/tools:1'"
        raise ValueError(message)
    return value


def _reasoning(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value in _LEVELS:
        return value
    message = f"{value!r} must be one of {', '.join(_LEVELS)}, or a number of tokens"
    raise ValueError(message)


def _stop(value: object) -> object:
    """One text stands for a list of it."""
    return [value] if isinstance(value, str) else value


def _text_of(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value) is None:
            message = f"{value!r} is not {what}"
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _header_value(value: str) -> str:
    """What an HTTP header may carry; the value itself is not repeated in the message."""
    if not value.isprintable() or not value.isascii():
        message = "must be printable ASCII, on one line"
        raise ValueError(message)
    return value


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, by its literal form."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    if is_loopback(host):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _endpoint(value: str) -> str:
    """An https address of a public host, or any of this machine, as development needs it.

    What a name resolves to is checked when it is connected to, and so is whether the operator lets
    servers of this machine be used at all.
    """
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.username is not None or parts.password is not None:
        message = "must not hold a user or a password: write a header 'Authorization' instead"
        raise ValueError(message)
    here = is_loopback(host) and parts.scheme in {"http", "https"}
    if not here and (parts.scheme != "https" or not host or _is_private(host)):
        message = (
            f"{value!r} must be the https address of a public host, or one of this machine such as "
            "'http://127.0.0.1:8000/mcp'"
        )
        raise ValueError(message)
    return value


def _json_schema(value: str) -> str:
    try:
        schema: Any = json.loads(value)
    except (ValueError, RecursionError) as error:
        message = f"not JSON: {error}"
        raise ValueError(message) from None
    if not isinstance(schema, dict) or cast("dict[str, object]", schema).get("type") != "object":
        message = 'must be the JSON schema of an object, as in \'{"type": "object"}\''
        raise ValueError(message)
    fault = schema_fault(cast("object", schema))
    if fault is not None:
        raise ValueError(fault)
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARS_MAX)]
Instruction = Annotated[str, StringConstraints(min_length=1, max_length=INSTRUCTION_CHARS_MAX)]
Description = Annotated[str, StringConstraints(max_length=DESCRIPTION_CHARS_MAX)]
Rule = Annotated[str, StringConstraints(max_length=RULE_CHARS_MAX)]
Version = Annotated[str, AfterValidator(_semver)]
Tags = Annotated[list[Annotated[str, AfterValidator(_tag)]], Field(max_length=TAGS_MAX)]
Names = Annotated[list[Name], Field(max_length=ITEMS_MAX)]
Variables = Annotated[list[Annotated[Name, AfterValidator(_variable)]], Field(max_length=ITEMS_MAX)]
Domains = Annotated[list[Annotated[Name, AfterValidator(_domain)]], Field(max_length=ITEMS_MAX)]
Endpoint = Annotated[
    str, StringConstraints(max_length=ENDPOINT_CHARS_MAX), AfterValidator(_endpoint)
]
JsonSchema = Annotated[
    str, StringConstraints(max_length=SCHEMA_CHARS_MAX), AfterValidator(_json_schema)
]
ReasoningBudget = Annotated[Reasoning, BeforeValidator(_reasoning)]
Count = Annotated[int, Field(ge=1, le=WHOLE_MAX)]
CountOrZero = Annotated[int, Field(ge=0, le=WHOLE_MAX)]
Size = Annotated[int, BeforeValidator(_size), Field(ge=1)]
Memory = Annotated[int, BeforeValidator(_size), Field(ge=MEMORY_BYTES_MIN)]
Cpus = Annotated[float, Field(ge=0.01, allow_inf_nan=False)]
Image = Annotated[Name, AfterValidator(_image)]

Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-WHOLE_MAX, le=WHOLE_MAX)]
Stop = Annotated[list[Name], BeforeValidator(_stop), Field(max_length=STOPS_MAX)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=KEY_CHARS_MAX)]
Label = Annotated[Name, _text_of(_LABEL_ONLY, "a name of letters, digits and '-'")]
Word = Annotated[Name, _text_of(_WORD, "a name of letters, digits, '-', '_', '.' and ':'")]
HeaderName = Annotated[str, _text_of(_HEADER, "the name of a header")]
HeaderValue = Annotated[
    str, StringConstraints(max_length=HEADER_CHARS_MAX), AfterValidator(_header_value)
]
Headers = Annotated[dict[HeaderName, HeaderValue], Field(max_length=HEADERS_MAX)]
Day = Annotated[str, _text_of(_DAY, "a day such as '2026-01-31'")]
