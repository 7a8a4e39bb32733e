"""Which model each expert runs with. Not how the model is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from domain.errors import Rejected
from domain.limits import ModelChoice, Reasoning
from peritus.definitions.fields import is_loopback
from peritus.definitions.lines import Loc
from peritus.definitions.providers import DEFAULT_PROVIDER, FOREIGN, PROVIDERS, SCRIPTED
from peritus.definitions.report import Report, did_you_mean
from peritus.definitions.schema import (
    ExpertTable,
    FileTable,
    ProviderSettingTable,
    ProviderTable,
)

REASONING_DEFAULT: Reasoning = "low"
SETTING: Loc = ("provider", "setting")


@dataclass(frozen=True, slots=True)
class Flags:
    """What the caller asks for, above the file."""

    provider: str | None = None
    model: str | None = None
    reasoning: Reasoning | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the top of the file says."""

    folder: Path
    provider: str = DEFAULT_PROVIDER
    base_url: str | None = None
    model: str | None = None
    reasoning: Reasoning | None = None


@dataclass(frozen=True, slots=True)
class _Named:
    """A model's name, where it was written, and the folder a path in it starts from."""

    model: str
    loc: Loc
    folder: Path


def check_flags(flags: Flags) -> None:
    """Refuse a provider nobody can speak to.

    Raises:
        Rejected: the provider is unknown, or not spoken to by this release.
    """
    if flags.provider is not None and flags.provider not in PROVIDERS:
        raise Rejected(code="unknown_provider", message=_no_provider(flags.provider))


def read_defaults(report: Report, file: FileTable, folder: Path) -> Defaults | None:
    """The provider of the file and its settings; None if they are wrong and reported."""
    if file.provider is None:
        name, base_url = DEFAULT_PROVIDER, None
    else:
        table = report.read(ProviderTable, file.provider, ("provider",))
        if table is None or not _known(report, table.provider_name, ("provider", "providerName")):
            return None
        name = table.provider_name
        base_url = _base_url(report, name, table.setting or {})
    return Defaults(folder, name, base_url, file.model, file.reasoning_budget)


def choose(
    report: Report, key: str, expert: ExpertTable, defaults: Defaults, flags: Flags
) -> ModelChoice | None:
    """The model of one expert; None if there is none and that is reported.

    Flag, expert, expert's tier, file, middle tier: the first of them counts that was written for
    the provider in use, since the name of a model means nothing to another provider.
    """
    loc: Loc = ("experts", key)
    if expert.provider is not None and not _known(report, expert.provider, (*loc, "provider")):
        return None
    provider = flags.provider or expert.provider or defaults.provider
    found = _named(report, key, expert, defaults, flags)
    if found is None:
        message = f"provider {provider!r} has no model of its own choice for {key!r}: set 'model'"
        if flags.provider is not None:
            raise Rejected(code="no_model", message=message)
        report.error(loc, message)
        return None
    return ModelChoice(
        provider=provider,
        model=_script(report, found) if provider == SCRIPTED else found.model,
        reasoning=_first(flags.reasoning, expert.reasoning_budget, defaults.reasoning),
        base_url=defaults.base_url if provider == defaults.provider else None,
    )


def _named(
    report: Report, key: str, expert: ExpertTable, defaults: Defaults, flags: Flags
) -> _Named | None:
    provider = flags.provider or expert.provider or defaults.provider
    loc: Loc = ("experts", key)
    if flags.model is not None:
        if provider == (flags.provider or defaults.provider):
            return _Named(flags.model, (), Path.cwd())
        message = (
            f"the given model {flags.model!r} is not for {key!r}, whose provider is {provider!r}"
        )
        report.notice((*loc, "provider"), message)
    if expert.model is not None and provider == (expert.provider or defaults.provider):
        return _Named(expert.model, (*loc, "model"), defaults.folder)
    tiers = PROVIDERS[provider].tiers
    if tiers is not None and expert.default_model_tier is not None:
        return _Named(tiers.of(expert.default_model_tier), loc, defaults.folder)
    if defaults.model is not None and provider == defaults.provider:
        return _Named(defaults.model, ("model",), defaults.folder)
    return None if tiers is None else _Named(tiers.middle, loc, defaults.folder)


def _script(report: Report, found: _Named) -> str:
    path = (found.folder / found.model).resolve()
    if not path.is_file():
        message = f"the script {str(path)!r} is not there"
        if not found.loc:
            raise Rejected(code="no_script", message=message)
        report.error(found.loc, message)
    return str(path)


def _base_url(report: Report, provider: str, raw: Mapping[str, object]) -> str | None:
    table = report.read(ProviderSettingTable, raw, SETTING)
    takes = PROVIDERS[provider].settings
    for field in ProviderSettingTable.model_fields.values():
        key = str(field.alias)
        if key in raw and key not in takes:
            what = f"takes {', '.join(takes)}" if takes else "takes none"
            message = f"provider {provider!r} has no setting {key!r}: it {what}"
            report.error((*SETTING, key), message)
    if table is None or table.base_url is None:
        return None
    wrong = _wrong_url(table.base_url, plain_http=PROVIDERS[provider].plain_http)
    if wrong is not None:
        report.error((*SETTING, "baseUrl"), f"provider.setting.baseUrl: {wrong}")
    return table.base_url


def _wrong_url(url: str, *, plain_http: bool) -> str | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return str(error)
    if parts.scheme not in {"http", "https"} or not host:
        return f"{url!r} is not an http or https address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or a password: definitions are kept in the log"
    if parts.scheme == "http" and not plain_http and not is_loopback(host):
        return f"{url!r} must be https"
    return None


def _known(report: Report, provider: str, loc: Loc) -> bool:
    if provider not in PROVIDERS:
        report.error(loc, _no_provider(provider))
        return False
    return True


def _no_provider(provider: str) -> str:
    spoken = f"this release speaks to {', '.join(sorted(PROVIDERS))}"
    if provider in FOREIGN:
        return f"this release does not speak to provider {provider!r}; {spoken}"
    hint = did_you_mean(provider, PROVIDERS) or f"; {spoken}"
    return f"unknown provider {provider!r}{hint}"


def _first(*budgets: Reasoning | None) -> Reasoning:
    for one in budgets:
        if one is not None:
            return one
    return REASONING_DEFAULT


def parse_reasoning(text: str) -> Reasoning:
    """A reasoning budget from the text of a flag.

    Raises:
        Rejected: it is neither a level nor a number of tokens.
    """
    if text in {"none", "minimal", "low", "medium", "high"}:
        return cast("Reasoning", text)
    if text.isascii() and text.isdigit():
        return int(text)
    message = (
        f"reasoning budget {text!r} must be none, minimal, low, medium, high or a number of tokens"
    )
    raise Rejected(code="bad_reasoning", message=message)
