"""Definitions as they were written for the seed: they load as they are, and mean what they did."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    InteractiveSkill,
    McpHttpSkill,
    McpStdioSkill,
    TopologySkill,
)
from domain.limits import Limits
from domain.provider_tools import ProviderSkill, ProviderTool
from peritus.definitions import LoadedDefinition, load_definition
from peritus.definitions.providers import PROVIDERS
from services.loop.models.capabilities import unsupported

FOLDER = Path(__file__).parent / "seed"
FILES = sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedDefinition:
    shutil.copy(FOLDER / f"{name}.toml", folder / "perstack.toml")
    monkeypatch.chdir(folder)
    return load_definition(folder / "perstack.toml")


def told(loaded: LoadedDefinition) -> list[str]:
    """What the notices are about: the key, or the first of what they quote."""
    return [
        match.group(1) for note in loaded.notes if (match := re.search("'([^']*)'", note.message))
    ]


@pytest.mark.parametrize("name", FILES)
def test_file_of_the_seed_loads_and_its_models_are_asked_for_nothing_they_lack(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = load(name, tmp_path, monkeypatch).definition
    experts = tomllib.loads((FOLDER / f"{name}.toml").read_text())["experts"]
    assert set(definition.experts) == set(experts)
    for expert in definition.experts.values():
        assert unsupported(expert.model, expert.provider_tools, expert.provider_skills) == []


def test_there_is_a_file_for_each_of_the_nine_providers() -> None:
    used = {
        tomllib.loads((FOLDER / f"{name}.toml").read_text())["provider"]["providerName"]
        for name in FILES
    }
    assert used == set(PROVIDERS) - {"openai-chat", "scripted"}


def test_everything_that_can_be_written_means_what_it_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load("everything", tmp_path, monkeypatch)
    definition = loaded.definition
    coordinator = definition.experts["coordinator"]
    assert definition.limits == Limits(
        steps_max=100, generation_attempts_max=6, generation_timeout_ms=300_000
    )
    assert loaded.env_paths == (tmp_path / ".env", tmp_path / ".env.local")
    assert (coordinator.version, coordinator.tags) == ("1.2.3-beta.1+build.5", ("a", "b-2", "c_3"))
    assert "{{mustache}}" in coordinator.instruction
    model = coordinator.model
    assert (model.model, model.reasoning) == ("claude-opus-4-6", 2048)
    assert model.base_url == "https://proxy.example.com/anthropic"
    assert model.headers == {"X-Team": "blue"}
    assert definition.experts["reviewer"].model.model == "claude-sonnet-4-5"
    assert [tool.name for tool in coordinator.provider_tools] == [
        *("webSearch", "webFetch", "codeExecution"),
    ]
    assert coordinator.provider_tools[0] == ProviderTool(name="webSearch", options={"maxUses": 1})
    assert coordinator.provider_skills == (
        ProviderSkill(kind="builtin", name="pdf"),
        ProviderSkill(kind="builtin", name="docx"),
    )


def test_skills_of_the_seed_are_records_of_their_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skills = load("everything", tmp_path, monkeypatch).definition.experts["coordinator"].skills
    assert {name: type(skill) for name, skill in skills.items()} == {
        BASE_SKILL: BaseSkill,
        "@perstack/skill-manager": TopologySkill,
        "ask": InteractiveSkill,
        "fetch": McpStdioSkill,
        "files": McpStdioSkill,
        "remote": McpHttpSkill,
    }
    fetch = skills["fetch"]
    assert isinstance(fetch, McpStdioSkill)
    assert (fetch.command, fetch.args, fetch.pick) == ("uvx", ("mcp-server-fetch",), ("fetch",))


def test_what_has_no_effect_or_another_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = told(load("everything", tmp_path, monkeypatch))
    for key in ("runtime", "perstackApiBaseUrl", "perstackBaseSkillCommand", "temperature"):
        assert key in found
    assert {"{{mustache}}", "fileSearch", "think"} <= set(found)


def test_keys_in_a_file_of_the_seed_are_no_part_of_its_definition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load("keys", tmp_path, monkeypatch)
    assert b"s3cret" not in loaded.definition.to_bytes()
    assert not any("s3cret" in notice for notice in loaded.notices)
    assert sum("peritus secrets set" in notice for notice in loaded.notices) == 4


def test_teams_of_the_seed_keep_their_scopes_and_circles_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load("team", tmp_path, monkeypatch)
    assert loaded.definition.experts["@plan/scout"].delegates == ("@plan/reader", "build")
    circles = [note.message for note in loaded.notes if "in a circle" in note.message]
    assert [message.rpartition(": ")[2] for message in circles] == [
        "@plan/scout -> build -> plan -> @plan/scout",
    ]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("0.0.1", None),
        ("v0.0", None),
        ("0.1", None),
        ("99.0.0", "minRuntimeVersion is 99.0.0, and this is Peritus "),
        ("v99.1", "it is run all the same"),
        (">=1.0", "minRuntimeVersion '>=1.0' is not a version such as"),
    ],
)
def test_version_of_the_runtime_is_compared_and_never_an_error(
    wanted: str, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "perstack.toml"
    path.write_text(f'[experts.a]\ninstruction = "x"\nminRuntimeVersion = "{wanted}"\n')
    notices = load_definition(path).notices
    assert len(notices) == (says is not None)
    if says is not None:
        assert notices[0].startswith("perstack.toml:3: ")
        assert says in notices[0]
