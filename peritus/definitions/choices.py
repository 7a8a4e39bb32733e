"""One model with its parameters, price and place. Not which of the models in question it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from domain.errors import Rejected
from domain.limits import ModelChoice, Price, Reasoning, Sampling
from peritus.definitions.lines import Loc
from peritus.definitions.prices import Prices
from peritus.definitions.profiles import Profile
from peritus.definitions.providers import SCRIPTED
from peritus.definitions.report import Report, place
from peritus.definitions.schema import ModelKeys
from services.loop.models.capabilities import unsupported
from services.loop.models.sampling import refusals

REASONING_DEFAULT: Reasoning = "low"

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Named:
    """A model's name, where it was written, and the folder a path in it starts from."""

    model: str
    loc: Loc  # empty: the caller gave it
    folder: Path


@dataclass(frozen=True, slots=True)
class ChoiceMaker:
    """Makes the choices of one definition."""

    report: Report
    prices: Prices
    reasoning: Reasoning | None = None  # above everything that is written
    forced: bool = False  # a flag has chosen the provider or the model

    def make(
        self, profile: Profile, named: Named, layers: Sequence[ModelKeys], loc: Loc
    ) -> ModelChoice:
        """A model with the parameters of the first layer that says something of each.

        The last layer is that of the file, which is for every provider in it.
        """
        scripted = profile.provider == SCRIPTED
        usual = ModelChoice(provider=profile.provider, model=named.model)
        outputs = (layer.max_output_tokens for layer in layers)
        plain = ModelChoice(
            provider=profile.provider,
            model=self._script(named) if scripted else named.model,
            reasoning=self._reasoning(layers),
            output_tokens_max=_first(*outputs, usual=usual.output_tokens_max),
            base_url=profile.base_url,
            settings=profile.settings,
            headers=profile.headers,
            price=self._price(profile, named, loc),
        )
        choice = plain.model_copy(update={"sampling": self._sampling(plain, layers, loc)})
        for sentence in unsupported(choice):
            self.report.error(loc, f"{place(loc)}: {sentence}")
        return choice

    def _reasoning(self, layers: Sequence[ModelKeys]) -> Reasoning:
        if self.reasoning is not None:
            return self.reasoning
        for layer in layers:
            if layer.reasoning_budget is not None:
                return layer.reasoning_budget
        return REASONING_DEFAULT

    def _sampling(self, choice: ModelChoice, layers: Sequence[ModelKeys], loc: Loc) -> Sampling:
        """How to sample. What the model does not take is an error where it was written for it.

        It is left out where it was written for others too, or a flag has chosen this model.
        """
        reasons: Mapping[str, str] = refusals(choice) if choice.provider != SCRIPTED else {}
        found: dict[str, object] = {}
        for name in Sampling.model_fields:
            layer = next((one for one in layers if getattr(one, name) is not None), None)
            value = None if layer is None else getattr(layer, name)
            reason = reasons.get(name, "")
            if value is None or value == [] or not reason:
                found[name] = value
                continue
            key = str(ModelKeys.model_fields[name].alias)
            message = f"{choice.provider} does not take it for {choice.model}: {reason}"
            if layer is layers[0] and not self.forced:
                self.report.error((*loc, key), f"{place((*loc, key))}: {message}")
            else:
                at: Loc = (key,) if layer is layers[-1] else (*loc, key)
                self.report.notice(at, f"{key!r} is left out for {place(loc)}: {message}")
        return Sampling.model_validate({k: v for k, v in found.items() if v is not None})

    def _price(self, profile: Profile, named: Named, loc: Loc) -> Price | None:
        price = self.prices.of(profile, named.model)
        if price is None and self.prices.needed:
            table = place(("prices", f"{profile.name}/{named.model}"))
            message = (
                f"a budget is set, and nobody knows what {profile.name} {named.model} costs: "
                f"add [{table}] with 'input' and 'output' in US dollars per million tokens"
            )
            self.report.error(named.loc or loc, message)
        return price

    def _script(self, named: Named) -> str:
        path = (named.folder / named.model).resolve()
        if not path.is_file():
            message = f"the script {str(path)!r} is not there"
            if not named.loc:
                raise Rejected(code="no_script", message=message)
            self.report.error(named.loc, message)
        return str(path)


def _first(*values: V | None, usual: V) -> V:
    return next((value for value in values if value is not None), usual)
