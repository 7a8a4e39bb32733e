"""What a definition asks of a provider that it does not have, found before any call. Pure.

Loaders of definitions, starts of runs and the registry ask the same function, so that nobody learns
of it from a provider's refusal in the middle of a run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from domain.limits import ModelChoice
from domain.provider_tools import ProviderSkill, ProviderTool
from services.loop.models.providers import DEPLOYMENT_URLS, PROVIDERS, SETTING_VALUE, Provider
from services.loop.models.sampling import sampling_problems
from services.loop.models.server_tools import (
    FORMS,
    SKILLS,
    SKILLS_MAX,
    Kind,
    ToolForm,
    forms_of,
    has_skills,
)

_SKILL_ID = re.compile(r"skill_[A-Za-z0-9]+")


def unsupported(
    choice: ModelChoice,
    provider_tools: Sequence[ProviderTool] = (),
    provider_skills: Sequence[ProviderSkill] = (),
) -> list[str]:
    """What is asked for and the provider of a choice has not, as sentences that say what to change.

    Empty for a provider that nobody knows: that is said elsewhere, with the nearest name.
    """
    provider = PROVIDERS.get(choice.provider)
    if provider is None:
        return []
    return [
        *_settings(choice, provider),
        *sampling_problems(choice),
        *_tools(choice, provider_tools),
        *_skills(choice, provider_skills),
    ]


def _settings(choice: ModelChoice, provider: Provider) -> Iterator[str]:
    known = {setting.name: setting for setting in provider.settings}
    for name in sorted(choice.settings):
        value = choice.settings[name]
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            yield f"{name}: {choice.provider} has no such setting; {has}"
        elif value and name != "name" and SETTING_VALUE.fullmatch(value) is None:
            yield (
                f"{name}: {value!r} cannot be part of an address or a header; use letters, digits, "
                "'.', '_', ':' and '-'"
            )
        elif name == DEPLOYMENT_URLS and value not in {"true", "false"}:
            yield f"{name}: {value!r} is neither 'true' nor 'false'"
    for setting in provider.settings:
        replaced = setting.name == "resourceName" and choice.base_url is not None
        if setting.needed and not replaced and not choice.settings.get(setting.name):
            yield (
                f"{setting.name}: {choice.provider} needs it; set provider.setting.{setting.name}"
                f" (or {setting.variable} where the definition is read)"
            )


def _tools(choice: ModelChoice, tools: Sequence[ProviderTool]) -> Iterator[str]:
    forms = forms_of(choice)
    names = [tool.name for tool in tools]
    for tool in tools:
        form = forms.get(tool.name)
        if form is not None:
            yield from _options(choice, tool, form)
            continue
        has = f"it has {', '.join(forms)}" if forms else "it has none that Peritus can ask for"
        others = [name for name, known in FORMS.items() if tool.name in known]
        where = f"; these have it: {', '.join(others)}" if others else ""
        yield (
            f"providerTools: {choice.provider} has no {tool.name!r} for {choice.model}; "
            f"{has}; take it out or change the provider{where}"
        )
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"providerTools: {name!r} is there twice; take one out"


def _options(choice: ModelChoice, tool: ProviderTool, form: ToolForm) -> Iterator[str]:
    where = f"providerToolOptions.{tool.name}"
    for name, value in tool.options.items():
        option = form.options.get(name)
        if option is None:
            has = f"it has {', '.join(form.options)}" if form.options else "it has none"
            yield f"{where}.{name}: {choice.provider} has no such option; {has}"
        elif not _fits(value, option.kind):
            yield f"{where}.{name}: {value!r} is not {_KINDS[option.kind]}"
    for name in form.needed:
        if not tool.options.get(name):
            yield f"{where}.{name}: {choice.provider} needs it"
    if {"allowedDomains", "blockedDomains"} <= set(tool.options):
        yield f"{where}: allowedDomains and blockedDomains exclude each other; take one out"


_KINDS: Mapping[Kind, str] = {
    "number": "a whole number above zero",
    "word": "a text",
    "names": "a list of texts with at least one",
}


def _fits(value: object, kind: Kind) -> bool:
    match kind:
        case "number":
            return isinstance(value, int) and not isinstance(value, bool) and value > 0
        case "word":
            return isinstance(value, str) and bool(value)
        case "names":
            if not isinstance(value, list | tuple):
                return False
            items = cast("list[object] | tuple[object, ...]", value)
            return bool(items) and all(isinstance(item, str) and item for item in items)


def _skills(choice: ModelChoice, skills: Sequence[ProviderSkill]) -> Iterator[str]:
    if skills and not has_skills(choice):
        yield (
            f"providerSkills: {choice.provider} loads no skills; take them out or change the "
            "provider; these load them: anthropic"
        )
        return
    for skill in skills:
        if skill.kind == "builtin" and skill.name not in SKILLS:
            yield f"providerSkills: anthropic has no {skill.name!r}; it has {', '.join(SKILLS)}"
        elif skill.kind == "custom" and not _SKILL_ID.fullmatch(skill.definition.strip()):
            yield (
                f"providerSkills: the custom skill {skill.name!r} has to be uploaded to Anthropic "
                "first; write the id it got there (skill_…) into its definition"
            )
    if len(skills) > SKILLS_MAX:
        yield f"providerSkills: anthropic takes at most {SKILLS_MAX}, not {len(skills)}"
