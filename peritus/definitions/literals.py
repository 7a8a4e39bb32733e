"""Secrets that a definition file holds itself: what they are called instead. Not where they go.

Files of the seed may have keys in headers and a password in an address. Such a value never becomes
a part of a definition, which the log keeps (C15): its name does, and the file is where it is found.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit

from domain.references import reference, references_in
from peritus.definitions.lines import Loc
from peritus.definitions.providers import DEFAULT_PROVIDER

KEY_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
)
"""Headers whose values are secrets, whatever they look like."""

NAME_CHARS_MAX = 120
VALUE_CHARS_MIN = 8  # what is shorter under any other name is a setting rather than a key

_TELLING = re.compile(r"(?:^|[-_])(?:key|api_?key|\w*token|secret|password|credentials?)(?:[-_]|$)")
_SCHEME = re.compile(r"((?:Bearer|Basic|Token) +)(\S.*)", re.IGNORECASE)
_KNOWN = re.compile(r"(?:sk|pk|rk|gh[opsu]|xox[abp]|glpat|github_pat|AKIA|AIza)[-_A-Za-z0-9]{12,}")
_MIXED = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9_+/=-]{32,}")
_LOGIN = re.compile(r"(//)[^/?#]*@")
_UNFIT = re.compile(r"[^A-Z0-9]+")


@dataclass(frozen=True, slots=True)
class Literal:
    """A secret in a file: where it is, what it is called, and its value, which is never shown."""

    loc: Loc
    name: str
    value: str = field(repr=False)


def looks_secret(header: str, value: str) -> bool:
    """Whether the value of a header is a key, as far as that can be seen."""
    if references_in(value) or not value:
        return False
    plain = header.lower()
    if plain in KEY_HEADERS or _KNOWN.fullmatch(value) or _MIXED.fullmatch(value):
        return True
    if len(value) < VALUE_CHARS_MIN:
        return False
    return bool(_TELLING.search(plain) or _SCHEME.fullmatch(value))


def literals_in(content: Mapping[str, object]) -> list[Literal]:
    """All secrets in the settings of a file's providers, each under a name of its own."""
    found: list[Literal] = []
    for name, loc, raw in _settings(content):
        found += take_out(name, raw, loc)[1]
    for loc, raw in _servers(content):
        found += take_out_endpoint(raw, loc)[1]
    return found


def take_out(
    provider: str, setting: Mapping[str, object], loc: Loc
) -> tuple[dict[str, object], list[Literal]]:
    """The settings of a provider with references for its secrets, and those secrets."""
    taken: list[Literal] = []
    fresh = dict(setting)
    headers = setting.get("headers")
    if isinstance(headers, dict):
        table = cast("dict[str, object]", headers)
        fresh["headers"] = {
            name: _header(provider, name, value, (*loc, "headers", name), taken)
            for name, value in table.items()
        }
    url = setting.get("baseUrl")
    if isinstance(url, str):
        fresh["baseUrl"] = _address(provider, url, (*loc, "baseUrl"), taken)
    return fresh, taken


def take_out_endpoint(
    skill: Mapping[str, object], loc: Loc
) -> tuple[dict[str, object], list[Literal]]:
    """The table of a server that is reached by HTTP, with references for what its address holds.

    Of the seed's files only the address can hold a key. A login becomes the header that it means.
    """
    fresh, taken, url = dict(skill), list[Literal](), skill.get("endpoint")
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None  # reported by whoever reads it
    if parts is None:
        return fresh, taken
    at: Loc = (*loc, "endpoint")
    names = tuple(str(part) for part in (*loc[1:2], loc[-1], "endpoint"))
    login, found, host = parts.netloc.rpartition("@")
    headers = skill.get("headers", {})
    if found and isinstance(headers, dict):
        name = secret_name(*names, "login")
        taken.append(Literal(at, name, b64encode(unquote(login).encode()).decode()))
        own = cast("dict[str, object]", headers)
        fresh["headers"] = {**own, "Authorization": f"Basic {reference(name)}"}
        parts = parts._replace(netloc=host)
    query = [_parameter(pair, names, at, taken) for pair in parts.query.split("&")]
    if taken:
        fresh["endpoint"] = urlunsplit(parts._replace(query="&".join(query)))
    return fresh, taken


def _parameter(pair: str, names: tuple[str, ...], loc: Loc, taken: list[Literal]) -> str:
    key, equals, value = pair.partition("=")
    plain = unquote(value)
    if not looks_secret(unquote(key), plain):
        return pair
    name = secret_name(*names, unquote(key))
    taken.append(Literal(loc, name, plain))
    return f"{key}{equals}{reference(name)}"


def secret_name(*parts: str) -> str:
    """A name for a secret, made of where it is used."""
    name = "_".join(_UNFIT.sub("_", part.upper()).strip("_") for part in parts)[:NAME_CHARS_MAX]
    return f"_{name}" if name[:1].isdigit() else name


def _header(provider: str, name: str, value: object, loc: Loc, taken: list[Literal]) -> object:
    if not isinstance(value, str) or not looks_secret(name, value):
        return value
    secret = secret_name(provider, "header", name)
    scheme = _SCHEME.fullmatch(value)
    before, key = (scheme[1], scheme[2]) if scheme else ("", value)
    taken.append(Literal(loc, secret, key))
    return before + reference(secret)


def _address(provider: str, url: str, loc: Loc, taken: list[Literal]) -> str:
    """The address, with references for its password, or for a user that comes without one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # reported by whoever reads it
    login, at, host = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    what, value = ("password", password) if password else ("user", user)
    if not at or not value or references_in(unquote(value)):
        return url
    secret = secret_name(provider, "base_url", what)
    taken.append(Literal(loc, secret, unquote(value)))
    login = f"{user}{colon}{reference(secret)}" if password else reference(secret) + colon
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def _settings(content: Mapping[str, object]) -> Iterator[tuple[str, Loc, Mapping[str, object]]]:
    """Every table of settings: the provider's name, where the table is, and what is in it."""
    usual = content.get("provider")
    if isinstance(usual, dict):
        table = cast("dict[str, object]", usual)
        name, setting = table.get("providerName", DEFAULT_PROVIDER), table.get("setting")
        if isinstance(name, str) and isinstance(setting, dict):
            yield name, ("provider", "setting"), cast("dict[str, object]", setting)
    for name, named in _tables(content.get("providers")):
        for key, setting in _tables(named):
            if key == "setting":
                yield name, ("providers", name, "setting"), setting


def _servers(content: Mapping[str, object]) -> Iterator[tuple[Loc, Mapping[str, object]]]:
    """Every table of a skill that has an address."""
    for expert, table in _tables(content.get("experts")):
        for name, skill in _tables(table.get("skills")):
            if "endpoint" in skill:
                yield ("experts", expert, "skills", name), skill


def _tables(raw: object) -> Iterator[tuple[str, Mapping[str, object]]]:
    for name, table in cast("dict[str, object]", raw if isinstance(raw, dict) else {}).items():
        if isinstance(table, dict):
            yield name, cast("dict[str, object]", table)


def without_login(url: str) -> str:
    """An address as it may be shown: its user and password are left out."""
    return _LOGIN.sub(r"\1", url)
