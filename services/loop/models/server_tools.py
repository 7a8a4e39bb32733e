"""Tools that run at the provider, as each wire has them. Not tools of ours, and not their results.

Sources: `types/tool_union_param.py` and `types/skill_params.py` of the `anthropic` SDK, and
`types/responses/tool_param.py` of the `openai` SDK. Chat Completions has no such tools on the
servers that Peritus speaks to in that format.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

from domain.limits import ModelChoice
from domain.provider_tools import ProviderSkill, ProviderTool
from services.loop.models.providers import route_of

Kind = Literal["number", "word", "names"]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a tool: where it goes in the tool's body, and what it has to be."""

    path: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class ToolForm:
    """A tool in a provider's words. `include`: what the reply is asked to hold for it."""

    body: Mapping[str, Any]
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    needed: tuple[str, ...] = ()
    include: str = ""


_DOMAINS = {
    "maxUses": Option(("max_uses",), "number"),
    "allowedDomains": Option(("allowed_domains",), "names"),
    "blockedDomains": Option(("blocked_domains",), "names"),
}
# The oldest version of each tool: newer ones need newer models, and add ways for programs of the
# model to call tools that Peritus does not open.
_CLAUDE_SEARCH = ToolForm({"type": "web_search_20250305", "name": "web_search"}, _DOMAINS)
_CODE_EXECUTION = ToolForm({"type": "code_execution_20250825", "name": "code_execution"})

_FILE_SEARCH = ToolForm(
    {"type": "file_search"},
    {
        "vectorStoreIds": Option(("vector_store_ids",), "names"),
        "maxNumResults": Option(("max_num_results",), "number"),
    },
    needed=("vectorStoreIds",),
    include="file_search_call.results",
)
_CODE_INTERPRETER = ToolForm(
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {
        "fileIds": Option(("container", "file_ids"), "names"),
        "memoryLimit": Option(("container", "memory_limit"), "word"),
    },
    include="code_interpreter_call.outputs",
)
_IMAGE_GENERATION = ToolForm(
    {"type": "image_generation"},
    {
        "quality": Option(("quality",), "word"),
        "size": Option(("size",), "word"),
        "background": Option(("background",), "word"),
        "outputFormat": Option(("output_format",), "word"),
    },
)
_CONTEXT_SIZE = Option(("search_context_size",), "word")
_RESPONSES = {
    "fileSearch": _FILE_SEARCH,
    "codeInterpreter": _CODE_INTERPRETER,
    "imageGeneration": _IMAGE_GENERATION,
}

FORMS: Mapping[str, Mapping[str, ToolForm]] = {
    "anthropic": {
        "webSearch": _CLAUDE_SEARCH,
        "webFetch": ToolForm(
            {"type": "web_fetch_20250910", "name": "web_fetch"},
            {**_DOMAINS, "maxContentTokens": Option(("max_content_tokens",), "number")},
        ),
        "codeExecution": _CODE_EXECUTION,
    },
    "google-vertex": {"webSearch": _CLAUDE_SEARCH},
    "openai": {
        "webSearch": ToolForm(
            {"type": "web_search"},
            {
                "allowedDomains": Option(("filters", "allowed_domains"), "names"),
                "searchContextSize": _CONTEXT_SIZE,
            },
        ),
        **_RESPONSES,
    },
    "azure-openai": {
        "webSearchPreview": ToolForm(
            {"type": "web_search_preview"}, {"searchContextSize": _CONTEXT_SIZE}
        ),
        **_RESPONSES,
    },
}
"""The tools of each provider that has any, by the names that definitions use."""

SKILLS = ("docx", "pdf", "pptx", "xlsx")
"""Anthropic's own skills."""

SKILLS_MAX = 8


def forms_of(choice: ModelChoice) -> Mapping[str, ToolForm]:
    """The tools that the provider of a choice runs: those of its wire format."""
    route = route_of(choice)
    if route is None or route.wire == "openai-chat":
        return {}
    return FORMS.get(choice.provider, {})


def has_skills(choice: ModelChoice) -> bool:
    """Whether the provider of a choice loads skills: their container is Anthropic's own."""
    return choice.provider == "anthropic"


def tool_bodies(
    choice: ModelChoice, tools: Sequence[ProviderTool], skills: Sequence[ProviderSkill] = ()
) -> list[dict[str, Any]]:
    """The tools as the wire has them. Skills bring the tool that runs them, if it is not asked for.

    What the provider does not have is left out: `unsupported` has said so before any call.
    """
    forms = forms_of(choice)
    bodies = [_body(forms[tool.name], tool.options) for tool in tools if tool.name in forms]
    if skills and has_skills(choice) and not any(tool.name == "codeExecution" for tool in tools):
        bodies.append(dict(_CODE_EXECUTION.body))
    return bodies


def includes(choice: ModelChoice, tools: Sequence[ProviderTool]) -> list[str]:
    """What replies have to hold, so that the next request can say what a tool found."""
    forms = forms_of(choice)
    found = {forms[tool.name].include for tool in tools if tool.name in forms}
    return sorted(found - {""})


def skill_bodies(choice: ModelChoice, skills: Sequence[ProviderSkill]) -> list[dict[str, str]]:
    """The skills as Anthropic's container takes them; a custom one by the id it was uploaded as."""
    if not has_skills(choice):
        return []
    return [
        {
            "type": "anthropic" if skill.kind == "builtin" else "custom",
            "skill_id": skill.name if skill.kind == "builtin" else skill.definition.strip(),
            "version": "latest",
        }
        for skill in skills
    ]


def _body(form: ToolForm, options: Mapping[str, Any]) -> dict[str, Any]:
    body = deepcopy(dict(form.body))
    for name in sorted(options):
        option = form.options.get(name)
        if option is None:
            continue
        place = body
        for step in option.path[:-1]:
            place = place.setdefault(step, {})
        place[option.path[-1]] = options[name]
    return body
