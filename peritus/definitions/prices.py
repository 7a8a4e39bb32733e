"""What models cost, by who says so: an operator, the definition, the table that is shipped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

from domain.limits import Price
from peritus.definitions.lines import Loc
from peritus.definitions.profiles import Profile, Profiles
from peritus.definitions.report import Place, Report, place
from peritus.definitions.schema import PriceTable
from peritus.definitions.sources import read_source

SHIPPED = Path(__file__).with_name("prices.toml")
ANY_MODEL = "*"

PriceList = Mapping[str, Price]
"""Prices by `provider/model`; the model `*` is every one that is not named."""

_AS_OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class Prices:
    """All price lists, the first that knows a model counts.

    An operator's comes before the definition's: whoever sets a budget for a definition of others
    must be able to rely on it.
    """

    operator: PriceList = field(default_factory=dict[str, Price])
    own: PriceList = field(default_factory=dict[str, Price])
    needed: bool = False  # a budget is set, so a model of unknown price cannot be used

    def of(self, profile: Profile, model: str) -> Price | None:
        """The price of a model; None if nobody knows.

        What is shipped are list prices, so they are not those of another address.
        """
        names = dict.fromkeys((profile.name, profile.provider))
        keys = [f"{name}/{one}" for one in (model, ANY_MODEL) for name in names]
        for prices in (self.operator, self.own):
            for key in keys:
                if key in prices:
                    return prices[key]
        if profile.base_url is not None:
            return None
        provider = _AS_OPENAI if profile.provider == "openai-chat" else profile.provider
        shipped = shipped_prices()
        return shipped.get(f"{provider}/{model}") or shipped.get(f"{provider}/{ANY_MODEL}")


def read_prices(report: Report, raw: Mapping[str, object], profiles: Profiles | None) -> PriceList:
    """The prices of a definition; without its providers, their names are not checked."""
    for key in raw:
        name = key.partition("/")[0]
        if profiles is not None and "/" in key and profiles.get(name) is None:
            report.error(("prices", key), profiles.unknown(name))
    return _read(report, raw, source="the definition")


def read_price_file(path: Path) -> PriceList:
    """The prices of a file with tables `[prices."provider/model"]` and nothing else.

    Raises:
        DefinitionError: the file cannot be read, or is wrong.
    """
    source = read_source(path)
    report = Report(source.shown)
    report.places.update({loc: Place(source.shown, line) for loc, line in source.lines.items()})
    for key in source.content:
        if key != "prices":
            report.error((key,), f"unknown key {key!r}: a list of prices holds tables [prices.…]")
    raw: object = source.content.get("prices", {})
    if not isinstance(raw, dict):
        report.error(("prices",), "prices must be a table")
        raw = {}
    prices = _read(report, cast("dict[str, object]", raw), source=source.shown)
    report.check()
    return prices


@cache
def shipped_prices() -> PriceList:
    """The list prices this release knows."""
    return read_price_file(SHIPPED)


def _read(report: Report, raw: Mapping[str, object], source: str) -> PriceList:
    prices: dict[str, Price] = {}
    for key in sorted(raw):
        loc: Loc = ("prices", key)
        provider, slash, model = key.partition("/")
        if not (provider and slash and model):
            report.error(loc, f"{place(loc)}: {key!r} is not 'provider/model'")
            continue
        table = report.read(PriceTable, raw[key], loc)
        if table is not None:
            prices[key] = Price(
                input=table.input,
                output=table.output,
                cached=table.cached,
                cache_written=table.cache_write,
                source=table.source or source,
                as_of=table.as_of,
            )
    return prices
