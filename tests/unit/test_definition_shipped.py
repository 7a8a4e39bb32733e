"""Experts that come with a release: when they are found, and with what. Not what they do."""

from pathlib import Path

import pytest

from domain.base_tools import BASE_TOOLS
from domain.context import build_context
from domain.definition import TopologySkill
from peritus.definitions import DefinitionError, Operator, load_definition
from peritus.definitions.shipped import shipped_experts
from services.loop.models.providers import PROVIDERS
from tests.support.definitions import HELLO, load, write

CREATE = "create-expert"
TEAM = ["@create-expert/planner", "@create-expert/verifier", "@create-expert/writer", CREATE]

ENVIRONMENT = {
    "AWS_REGION": "r",
    "AZURE_RESOURCE_NAME": "n",
    "GOOGLE_VERTEX_LOCATION": "l",
    "GOOGLE_VERTEX_PROJECT": "p",
}


def keys(path: Path, wanted: str | None) -> list[str]:
    return sorted(load_definition(path, wanted=wanted).definition.experts)


def test_a_shipped_expert_needs_no_file_and_reads_keys_where_one_would_be(tmp_path: Path) -> None:
    loaded = load_definition(tmp_path / "perstack.toml", wanted=CREATE)

    assert sorted(loaded.definition.experts) == TEAM
    assert loaded.notices == ()
    assert loaded.env_paths[0] == tmp_path / ".env"
    assert [file.is_relative_to(tmp_path) for file in loaded.files] == [False]


def test_a_project_lends_a_shipped_expert_its_provider_and_its_limits(tmp_path: Path) -> None:
    top = 'model = "m"\n[provider]\nproviderName = "openai-chat"\n[limits]\nstepsMax = 7\n'
    loaded = load(tmp_path, top, wanted=CREATE)

    found = loaded.definition
    models = {(one.model.provider, one.model.model) for one in found.experts.values()}
    assert models == {("openai-chat", "m")}
    assert found.limits.steps_max == 7


def test_only_who_is_wanted_is_added_beside_the_experts_of_the_project(tmp_path: Path) -> None:
    path = write(tmp_path, {"perstack.toml": HELLO})

    assert keys(path, "hello") == ["hello"]
    assert keys(path, None) == ["hello"]
    assert keys(path, CREATE) == [*TEAM, "hello"]


def test_the_expert_of_a_project_goes_before_the_shipped_one(tmp_path: Path) -> None:
    own = f'[experts.{CREATE}]\ninstruction = "Mine."\n'

    loaded = load(tmp_path, own, wanted=CREATE)

    assert sorted(loaded.definition.experts) == [CREATE]
    assert loaded.definition.expert(CREATE).instruction == "Mine."


def test_a_project_that_defines_a_part_of_the_team_is_told_both_places(tmp_path: Path) -> None:
    own = '[experts."@create-expert/planner"]\ninstruction = "Mine."\n'

    with pytest.raises(DefinitionError, match="is defined twice: here and at"):
        load(tmp_path, own, wanted=CREATE)


def test_an_expert_that_is_not_shipped_still_needs_a_file(tmp_path: Path) -> None:
    for name in ("nobody", "../experts/create-expert", "create-expert/perstack.toml"):
        with pytest.raises(DefinitionError, match="cannot be read"):
            load_definition(tmp_path / "perstack.toml", wanted=name)


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_shipped_expert_can_start_with_any_provider(provider: str, tmp_path: Path) -> None:
    for name in shipped_experts():
        loaded = load_definition(
            tmp_path / "perstack.toml",
            wanted=name,
            provider=provider,
            model="some-model",
            operator=Operator(environment=ENVIRONMENT),
        )
        for key in loaded.definition.experts:
            context, _ = build_context(loaded.definition, key)
            assert context.model.provider == provider


def test_only_the_verifier_of_create_expert_changes_its_team(tmp_path: Path) -> None:
    definition = load_definition(tmp_path / "perstack.toml", wanted=CREATE).definition

    changing = [
        key
        for key, expert in definition.experts.items()
        if any(isinstance(skill, TopologySkill) for skill in expert.skills.values())
    ]
    assert changing == ["@create-expert/verifier"]


def test_what_the_writer_is_told_of_the_format_loads_and_names_every_tool(tmp_path: Path) -> None:
    definition = load_definition(tmp_path / "perstack.toml", wanted=CREATE).definition
    told = definition.expert("@create-expert/writer").instruction

    assert {name for name in BASE_TOOLS if name not in told} == {"mergeWorkspace"}
    sample = "\n".join(line[4:] for line in told.splitlines() if line.startswith("    "))
    sample = sample.replace("@NAME/PART", "@name/part").replace("experts.NAME", "experts.name")
    sample += '\n[experts."@name/part"]\ninstruction = "Work."\n'
    assert load(tmp_path, sample).notices == ()


def test_no_instruction_of_the_team_has_a_line_end_that_toml_did_not_take(tmp_path: Path) -> None:
    definition = load_definition(tmp_path / "perstack.toml", wanted=CREATE).definition

    texts = [
        text for one in definition.experts.values() for text in (one.instruction, one.description)
    ]
    assert [text for text in texts if "\\" in text] == []
