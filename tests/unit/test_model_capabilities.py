"""What a provider does not have is said before it is asked, with what to change. No requests."""

from typing import Any

import pytest

from domain.limits import ModelChoice
from domain.provider_tools import ProviderSkill, ProviderTool
from peritus.definitions.providers import PROVIDERS as DEFINED
from services.loop.models.capabilities import unsupported
from services.loop.models.providers import PROVIDERS
from services.loop.models.server_tools import forms_of, tool_bodies

NEEDED = {
    "azure-openai": {"resourceName": "ours"},
    "amazon-bedrock": {"region": "eu-west-1"},
    "google-vertex": {"project": "p", "location": "global"},
}


def choice(provider: str, model: str = "m", **fields: Any) -> ModelChoice:
    settings = {**NEEDED.get(provider, {}), **fields.pop("settings", {})}
    return ModelChoice.model_validate(
        {"provider": provider, "model": model, "settings": settings, **fields}
    )


def tool(name: str, **options: Any) -> ProviderTool:
    return ProviderTool(name=name, options=options)


@pytest.mark.parametrize("provider", [*PROVIDERS, "scripted", "nobody"])
def test_choice_that_asks_for_nothing_is_supported(provider: str) -> None:
    assert unsupported(choice(provider)) == []


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (
            choice("anthropic", sampling={"temperature": 0}),
            "temperature: anthropic does not take it: it has no such thing; take it out; "
            "these have it: openai, openai-chat, azure-openai, google-vertex, google, ollama, "
            "deepseek, fireworks",
        ),
        (
            choice("anthropic", reasoning="none", sampling={"temperature": 1}),
            "temperature: anthropic does not take it",
        ),
        (choice("amazon-bedrock", sampling={"top_k": 3}), "top_k: amazon-bedrock"),
        (choice("google-vertex", "claude-x", sampling={"top_p": 1}), "top_p: google-vertex"),
        (
            choice("openai", "gpt-5-mini", sampling={"temperature": 0.2}),
            "gpt-5-mini is a reasoning model, which refuses it; take it out",
        ),
        (choice("openai", "gpt-4.1", sampling={"stop": ["x"]}), "stop: openai"),
        (choice("openai", "gpt-5.2", sampling={"top_p": 0.2}), "gpt-5.2 is a reasoning model"),
        (choice("openai-chat", "o3", sampling={"stop": ["x"]}), "o3 is a reasoning model"),
        (choice("openai-chat", "gpt-4.1", sampling={"top_k": 1}), "top_k: openai-chat"),
        (choice("google", sampling={"seed": 1}), "seed: google does not take it"),
        (choice("deepseek", "deepseek-reasoner", sampling={"top_p": 1}), "ignores it"),
        (choice("openai-chat", "gpt-4.1", sampling={"stop": list("abcde")}), "at most 4"),
        (choice("anthropic", sampling={"stop": [" "]}), "white space only"),
        (choice("anthropic", settings={"region": "x"}), "region: anthropic has no such setting"),
        (choice("openai", settings={"region": "x"}), "it has organization, project, name"),
        (choice("azure-openai", settings={"resourceName": ""}), "resourceName: azure-openai"),
        (choice("amazon-bedrock", settings={"region": ""}), "provider.setting.region"),
        (choice("amazon-bedrock", settings={"region": ""}), "AWS_REGION"),
        (choice("google-vertex", settings={"project": "../x"}), "cannot be part of an address"),
        (choice("openai", settings={"project": "a\nb: c"}), "cannot be part of an address"),
        (
            choice("azure-openai", settings={"useDeploymentBasedUrls": "yes"}),
            "neither 'true' nor 'false'",
        ),
    ],
)
def test_parameter_that_is_not_there_is_named_with_what_to_change(
    wanted: ModelChoice, told: str
) -> None:
    assert any(told in sentence for sentence in unsupported(wanted)), unsupported(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        choice("openai", "gpt-4.1", sampling={"temperature": 0, "top_p": 1}),
        choice("openai", "gpt-5-chat-latest", sampling={"temperature": 0}),
        choice("openai", "gpt-5.2", reasoning="none", sampling={"temperature": 0}),
        choice("openai-chat", "gpt-5-mini", base_url="http://h", sampling={"top_k": 2}),
        choice("azure-openai", base_url="http://h", settings={"resourceName": ""}),
        choice("azure-openai", settings={"useDeploymentBasedUrls": "true"}, sampling={"seed": 1}),
        choice("openai", settings={"name": "anything at all"}),
    ],
)
def test_parameter_that_is_there_is_taken(wanted: ModelChoice) -> None:
    assert unsupported(wanted) == []


@pytest.mark.parametrize(
    ("provider", "model", "tools", "told"),
    [
        ("openai", "m", [tool("webFetch")], "these have it: anthropic"),
        ("ollama", "m", [tool("webSearch")], "it has none that Peritus can ask for"),
        ("google", "m", [tool("googleSearch")], "google has no 'googleSearch'"),
        ("google-vertex", "gemini-2.5-pro", [tool("webSearch")], "for gemini-2.5-pro"),
        ("amazon-bedrock", "m", [tool("codeExecution")], "change the provider"),
        ("openai", "m", [tool("fileSearch")], "fileSearch.vectorStoreIds: openai needs it"),
        ("openai", "m", [tool("webSearch", maxUses=1)], "webSearch.maxUses: openai has no such"),
        ("anthropic", "m", [tool("codeExecution", maxUses=1)], "it has none"),
        ("anthropic", "m", [tool("webSearch", maxUses=0)], "0 is not a whole number above zero"),
        ("anthropic", "m", [tool("webSearch", maxUses=True)], "True is not a whole number"),
        ("anthropic", "m", [tool("webSearch", allowedDomains=[])], "a list of texts"),
        ("anthropic", "m", [tool("webSearch", allowedDomains=[1])], "a list of texts"),
        ("openai", "m", [tool("imageGeneration", quality=1)], "1 is not a text"),
        ("anthropic", "m", [tool("webSearch"), tool("webSearch")], "is there twice"),
        (
            "anthropic",
            "m",
            [tool("webSearch", allowedDomains=["a"], blockedDomains=["b"])],
            "exclude each other",
        ),
    ],
)
def test_tool_that_is_not_there_is_named_with_who_has_it(
    provider: str, model: str, tools: list[ProviderTool], told: str
) -> None:
    found = unsupported(choice(provider, model), tools)
    assert any(told in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("provider", "skill", "told"),
    [
        ("openai", ProviderSkill(kind="builtin", name="pdf"), "these load them: anthropic"),
        ("anthropic", ProviderSkill(kind="builtin", name="odt"), "docx, pdf, pptx, xlsx"),
        ("anthropic", ProviderSkill(kind="custom", name="x", definition="# Do"), "uploaded"),
    ],
)
def test_skill_that_is_not_there_is_named(provider: str, skill: ProviderSkill, told: str) -> None:
    (found,) = unsupported(choice(provider), (), [skill])
    assert told in found


def test_too_many_skills_are_told() -> None:
    skills = [ProviderSkill(kind="builtin", name="pdf")] * 9
    assert "at most 8" in unsupported(choice("anthropic"), (), skills)[0]


def test_tools_that_definitions_may_name_are_there_or_refused() -> None:
    """Every name that a definition may write for a provider is either rendered or told of."""
    for name, defined in DEFINED.items():
        if name not in PROVIDERS:
            continue
        asked = choice(name)
        for wanted in map(tool, defined.tools):
            told = [one for one in unsupported(asked, [wanted]) if "providerTools" in one]
            assert (wanted.name in forms_of(asked)) is not bool(told)
            assert len(tool_bodies(asked, [wanted])) == (not told)


def test_bodies_of_two_requests_share_nothing() -> None:
    wanted = choice("openai")
    first = tool_bodies(wanted, [tool("codeInterpreter", fileIds=["f"])])
    second = tool_bodies(wanted, [tool("codeInterpreter")])
    assert first == [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}]
    assert second == [{"type": "code_interpreter", "container": {"type": "auto"}}]
