"""How each provider of a file is reached: address, settings, headers. Not its models."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast
from urllib.parse import urlsplit

from domain.references import references_in
from peritus.definitions.fields import is_loopback
from peritus.definitions.lines import Loc
from peritus.definitions.literals import take_out, without_login
from peritus.definitions.providers import DEFAULT_PROVIDER, PROVIDERS
from peritus.definitions.report import Report, did_you_mean, place
from peritus.definitions.schema import (
    FileTable,
    NamedProviderTable,
    ProviderSettingTable,
    ProviderTable,
)
from peritus.definitions.telling import tell_literal
from services.loop.models.providers import PROVIDERS as SPOKEN

SETTING: Loc = ("provider", "setting")

OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"}
)
"""Headers that whoever speaks to the provider sets for itself."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A provider as a file names and sets it up."""

    name: str  # what `provider` of an expert says
    provider: str
    base_url: str | None = None
    settings: dict[str, str] = field(default_factory=dict[str, str])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Profiles:
    """All that a file sets up, and the one of experts that name none."""

    default: str = DEFAULT_PROVIDER
    named: Mapping[str, Profile] = field(default_factory=dict[str, Profile])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def get(self, name: str) -> Profile | None:
        """The provider of that name: as the file sets it up, or as it is by itself.

        What the file does not say, the variables of its environment may.
        """
        found = self.named.get(name)
        if found is None and name in PROVIDERS:
            found = Profile(name, name)
        return None if found is None else self._filled(found)

    def _filled(self, profile: Profile) -> Profile:
        spoken = SPOKEN.get(profile.provider)
        settings = {
            setting.name: self.environment[setting.variable]
            for setting in (spoken.settings if spoken is not None else ())
            if self.environment.get(setting.variable)
        }
        address = self.environment.get(PROVIDERS[profile.provider].address)
        merged = {**settings, **profile.settings}
        return replace(
            profile,
            base_url=profile.base_url or address or None,
            settings={name: merged[name] for name in sorted(merged)},
        )

    def unknown(self, name: str) -> str:
        """What is wrong with a name that is none."""
        known = [*PROVIDERS, *self.named]
        hint = did_you_mean(name, known) or f"; there are {', '.join(sorted(set(known)))}"
        return f"unknown provider {name!r}{hint}"


def read_profiles(
    report: Report, file: FileTable, environment: Mapping[str, str]
) -> Profiles | None:
    """The providers of a file; None if one is wrong and reported."""
    named: dict[str, Profile] = {}
    complete = True
    for name, raw in sorted(file.providers.items()):
        profile = _named(report, name, raw)
        complete = complete and profile is not None
        if profile is not None:
            named[name] = profile
    default = _default(report, file.provider, named)
    if default is None or not complete:
        return None
    profiles = Profiles(default.name, {**named, default.name: default}, environment)
    return profiles if _addresses_fine(report, environment) else None


def _addresses_fine(report: Report, environment: Mapping[str, str]) -> bool:
    fine = True
    for name, provider in PROVIDERS.items():
        url = environment.get(provider.address)
        wrong = _wrong_url(url, name) if url else None
        if wrong is not None:
            report.error(("provider",), f"the variable {provider.address}: {wrong}")
            fine = False
    return fine


def _default(report: Report, raw: object, named: Mapping[str, Profile]) -> Profile | None:
    loc: Loc = ("provider",)
    if raw is None or isinstance(raw, str):
        return _found(report, raw or DEFAULT_PROVIDER, named, loc)
    table = report.read(ProviderTable, raw, loc)
    if table is None:
        return None
    found = _found(report, table.provider_name, named, (*loc, "providerName"))
    if found is None or table.setting is None:
        return found
    if found.name in named:
        where = place(("providers", found.name, "setting"))
        report.error(SETTING, f"settings of {found.name!r} belong to {where}: keep one of them")
        return None
    return _settled(report, Profile(found.name, found.provider), table.setting, SETTING)


def _found(report: Report, name: str, named: Mapping[str, Profile], loc: Loc) -> Profile | None:
    profiles = Profiles(named=named)
    found = profiles.get(name)
    if found is None:
        report.error(loc, profiles.unknown(name))
    return found


def _named(report: Report, name: str, raw: object) -> Profile | None:
    loc: Loc = ("providers", name)
    table = report.read(NamedProviderTable, raw, loc)
    if table is None:
        return None
    provider = table.provider_name or name
    if "/" in name or not name:
        report.error(loc, f"{name!r} cannot name a provider: it is written before a '/' elsewhere")
        return None
    if provider not in PROVIDERS:
        if table.provider_name is None:
            message = f"{place(loc)} needs 'providerName', since {name!r} is no provider itself"
            report.error(loc, message)
        else:
            report.error((*loc, "providerName"), Profiles().unknown(provider))
        return None
    if name in PROVIDERS and name != provider:
        message = f"{name!r} is itself a provider: call {place(loc)} another name"
        report.error(loc, message)
        return None
    profile = Profile(name, provider, model=table.model)
    return _settled(report, profile, table.setting or {}, (*loc, "setting"))


def _settled(
    report: Report, profile: Profile, raw: Mapping[str, object], loc: Loc
) -> Profile | None:
    """The profile with the settings of a table; None if they are wrong and reported."""
    raw, literals = take_out(profile.name, raw, loc)
    for one in literals:
        tell_literal(report, one)
    table = report.read(ProviderSettingTable, raw, loc)
    takes = PROVIDERS[profile.provider].settings
    fine = table is not None
    for item in ProviderSettingTable.model_fields.values():
        key = str(item.alias)
        if key in raw and key not in takes:
            what = f"takes {', '.join(takes)}" if takes else "takes none"
            message = f"provider {profile.provider!r} has no setting {key!r}: it {what}"
            report.error((*loc, key), message)
            fine = False
    if table is None:
        return None
    headers = table.headers or {}
    wrong = None if table.base_url is None else _wrong_url(table.base_url, profile.provider)
    if wrong is not None:
        report.error((*loc, "baseUrl"), f"{place((*loc, 'baseUrl'))}: {wrong}")
    fine = _headers_fine(report, headers, (*loc, "headers")) and fine and wrong is None
    if not fine:
        return None
    return Profile(
        profile.name,
        profile.provider,
        base_url=table.base_url,
        settings=_settings(table),
        headers={name: headers[name] for name in sorted(headers)},
        model=profile.model,
    )


def _settings(table: ProviderSettingTable) -> dict[str, str]:
    """The settings by their keys, sorted; true and false are texts, too."""
    given = table.model_dump(by_alias=True, exclude_none=True, exclude={"base_url", "headers"})
    plain = cast("dict[str, str | bool]", given)
    return {
        key: value if isinstance(value, str) else str(value).lower()
        for key, value in sorted(plain.items())
    }


def _headers_fine(report: Report, headers: Mapping[str, str], loc: Loc) -> bool:
    fine = True
    seen: set[str] = set()
    for name in headers:
        plain = name.lower()
        problem = None
        if plain in OWN_HEADERS:
            problem = "is set by the client itself"
        elif plain in seen:
            problem = "is given twice, in other letters"
        seen.add(plain)
        if problem is not None:
            report.error((*loc, name), f"header {name!r} {problem}")
            fine = False
    return fine


def _wrong_url(url: str, provider: str) -> str | None:
    """What is wrong with an address; a login in it is by the names of secrets, and not shown."""
    shown = without_login(url)
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return f"{shown!r} is not an address"
    if parts.scheme not in {"http", "https"} or not host:
        return f"{shown!r} is not an http or https address"
    login = parts.netloc.rpartition("@")[0]
    if login and not references_in(login):
        return "must not hold a user or a password: write ${NAME} for the secret of that name"
    if references_in(url.replace(login, "")):
        return f"{shown!r}: only a user and a password can be by reference"
    if parts.scheme == "http" and not PROVIDERS[provider].plain_http and not is_loopback(host):
        return f"{shown!r} must be https"
    return None
