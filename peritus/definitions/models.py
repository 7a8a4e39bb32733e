"""Which model each expert runs with, and which ones stand by. Not how a model is called."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from domain.errors import Rejected
from domain.limits import ModelChoice, Reasoning
from domain.provider_tools import ProviderSkill, ProviderTool
from peritus.definitions.choices import ChoiceMaker, Named
from peritus.definitions.lines import Loc
from peritus.definitions.prices import Prices
from peritus.definitions.profiles import Profile, Profiles
from peritus.definitions.providers import PROVIDERS
from peritus.definitions.report import Report, place
from peritus.definitions.schema import ExpertTable, FallbackTable, FileTable, ModelKeys
from services.loop.models.capabilities import unsupported

FALLBACKS_MAX = 8


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
    profiles: Profiles = field(default_factory=Profiles)
    prices: Prices = field(default_factory=Prices)
    keys: ModelKeys = field(default_factory=ModelKeys)
    fallbacks: object = None


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one expert, and where each that stands by is written."""

    first: ModelChoice
    fallbacks: tuple[tuple[Loc, ModelChoice], ...] = ()

    def fitting(
        self, report: Report, tools: Sequence[ProviderTool], skills: Sequence[ProviderSkill]
    ) -> tuple[ModelChoice, ...]:
        """The models that stand by and can be asked for the expert's tools and skills, too."""
        fit: list[ModelChoice] = []
        for loc, choice in self.fallbacks:
            always = unsupported(choice)
            wrong = [one for one in unsupported(choice, tools, skills) if one not in always]
            if not wrong:
                fit.append(choice)
            for sentence in wrong:
                if loc[0] == "experts":
                    report.error(loc, f"{place(loc)} cannot stand in: {sentence}")
                else:
                    report.notice(loc, f"{place(loc)} does not stand by everywhere: {sentence}")
        return tuple(fit)


def check_flags(flags: Flags, profiles: Profiles) -> None:
    """Refuse a provider that there is none of.

    Raises:
        Rejected: the provider is unknown.
    """
    if flags.provider is not None and profiles.get(flags.provider) is None:
        raise Rejected(code="unknown_provider", message=profiles.unknown(flags.provider))


def defaults_of(file: FileTable, folder: Path, profiles: Profiles, prices: Prices) -> Defaults:
    """What the top of a file means for its experts."""
    keys = ModelKeys.model_validate(
        {name: getattr(file, name) for name in ModelKeys.model_fields},
        by_alias=False,
        by_name=True,
    )
    return Defaults(folder, profiles, prices, keys, file.fallbacks)


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses the models of the experts of one definition."""

    report: Report
    defaults: Defaults
    flags: Flags

    def choose(self, key: str, expert: ExpertTable, folder: Path) -> Models | None:
        """The models of an expert whose file is in `folder`; None if one is wrong and reported.

        Flag, expert, expert's tier, provider's table, file, middle tier: the first of them counts
        that was written for the provider in use, since the name of a model means nothing to
        another one.
        """
        loc: Loc = ("experts", key)
        wanted = expert.provider or self.defaults.profiles.default
        profile = self.defaults.profiles.get(wanted)
        if profile is None:
            self.report.error((*loc, "provider"), self.defaults.profiles.unknown(wanted))
            return None
        if self.flags.provider is not None:
            profile = self.defaults.profiles.get(self.flags.provider) or profile
        named = self._named(key, expert, profile, folder)
        if named is None:
            message = f"provider {profile.name!r} has no model of its own choice for {key!r}"
            if self.flags.provider is not None:
                raise Rejected(code="no_model", message=f"{message}: set 'model'")
            self.report.error(loc, f"{message}: set 'model'")
            return None
        first = self._maker.make(profile, named, (expert, self.defaults.keys), loc)
        fallbacks = self._fallbacks(key, expert, folder, first)
        return None if fallbacks is None else Models(first, fallbacks)

    @property
    def _maker(self) -> ChoiceMaker:
        forced = self.flags.provider is not None or self.flags.model is not None
        prices, reasoning = self.defaults.prices, self.flags.reasoning
        return ChoiceMaker(self.report, prices, reasoning, forced=forced)

    def _named(self, key: str, expert: ExpertTable, profile: Profile, folder: Path) -> Named | None:
        loc: Loc = ("experts", key)
        usual = self.defaults.profiles.default
        if self.flags.model is not None:
            if profile.name == (self.flags.provider or usual):
                return Named(self.flags.model, (), Path.cwd())
            message = f"the given model {self.flags.model!r} is not for {key!r}"
            self.report.notice((*loc, "provider"), f"{message}, whose provider is {profile.name!r}")
        if expert.model is not None and profile.name == (expert.provider or usual):
            return Named(expert.model, (*loc, "model"), folder)
        tiers = PROVIDERS[profile.provider].tiers
        if tiers is not None and expert.default_model_tier is not None:
            return Named(tiers.of(expert.default_model_tier), loc, folder)
        if profile.model is not None:
            at: Loc = ("providers", profile.name, "model")
            return Named(profile.model, at, self.defaults.folder)
        if self.defaults.keys.model is not None and profile.name == usual:
            return Named(self.defaults.keys.model, ("model",), self.defaults.folder)
        return None if tiers is None else Named(tiers.middle, loc, folder)

    def _fallbacks(
        self, key: str, expert: ExpertTable, folder: Path, first: ModelChoice
    ) -> tuple[tuple[Loc, ModelChoice], ...] | None:
        """The models that stand by for an expert; None if one is wrong and reported."""
        own = expert.fallbacks is not None
        loc: Loc = ("experts", key, "fallbacks") if own else ("fallbacks",)
        raw = expert.fallbacks if own else self.defaults.fallbacks
        entries = cast("list[object]", raw if isinstance(raw, list) else [])
        if raw is not None and not isinstance(raw, list):
            self.report.error(loc, f"{place(loc)} must be a list")
            return None
        if len(entries) > FALLBACKS_MAX:
            self.report.error(loc, f"{place(loc)} may have {FALLBACKS_MAX} entries")
            return None
        if entries and (self.flags.model is not None or self.flags.provider is not None):
            self.report.notice(loc, "fallbacks are left out, since a model or provider is given")
            return ()
        start = folder if own else self.defaults.folder
        found: dict[Loc, ModelChoice] = {}
        for index, entry in enumerate(entries):
            choice = self._fallback(expert, entry, (*loc, index), start)
            if choice is None:
                return None
            if choice not in (first, *found.values()):
                found[*loc, index] = choice
            elif own:
                message = f"{place((*loc, index))} is the expert's model or fallback already"
                self.report.error((*loc, index), message)
        return tuple(found.items())

    def _fallback(
        self, expert: ExpertTable, entry: object, loc: Loc, folder: Path
    ) -> ModelChoice | None:
        table = FallbackTable()
        name, model = expert.provider or self.defaults.profiles.default, ""
        if isinstance(entry, str):
            name, _, model = entry.partition("/")
        elif isinstance(entry, dict):
            found = self.report.read(FallbackTable, cast("dict[str, object]", entry), loc)
            if found is None:
                return None
            table = found
            name, model = table.provider or name, table.model or ""
        profile = self.defaults.profiles.get(name)
        if profile is None:
            message = f"{place(loc)}: {self.defaults.profiles.unknown(name)}"
            self.report.error(loc, message)
            return None
        model = model or profile.model or ""
        if not model:
            message = f"{place(loc)} must be 'provider/model', or a table with 'model'"
            self.report.error(loc, message)
            return None
        layers = (table, expert, self.defaults.keys)
        return self._maker.make(profile, Named(model, loc, folder), layers, loc)


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
