"""Lockfiles: written the same each time, read back as they were, and told when they do not fit."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.definition import Definition, McpHttpSkill, McpStdioSkill
from domain.mcp import Catalogue, OAuth, RemoteTool
from peritus.definitions import DefinitionError, LoadedDefinition
from peritus.definitions.lock import Lock, mcp_skills, with_catalogues
from peritus.definitions.lock_file import lock_text, read_lock
from peritus.definitions.toml_text import toml_value
from tests.support.definitions import expert, load, problem, problems, write

SEARCH = RemoteTool(
    name="search",
    description='Finds "things",\nand more.',
    input_schema={"type": "object", "properties": {"q": {"type": "string"}, "a b": {}}},
    output_schema={"type": "object", "properties": {"n": {"default": None}}},
    read_only=True,
)
FETCH = RemoteTool(name="fetch", input_schema={"type": "object"}, idempotent=True)
ASK = RemoteTool(kind="prompt", name="ask", input_schema={"type": "object"})
FOUND = Catalogue(
    server="finder",
    version="1.2.3",
    protocol="2025-06-18",
    tools=(ASK, FETCH, SEARCH),
    package="1.2.3",
)

FIND = """\
[experts.hello.skills.find]
type = "mcpStdioSkill"
command = "npx"
packageName = "finder@1.2.3"
requiredEnv = ["FINDER_KEY"]
"""
WEB = """\
[experts.hello.skills.web]
type = "mcpHttpSkill"
endpoint = "https://mcp.example.com/mcp"
headers = { Authorization = "Bearer ${WEB_KEY}" }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found_of(
    definition: Definition, catalogue: Catalogue = FOUND
) -> dict[tuple[str, str], Catalogue]:
    return {(key, name): catalogue for key, name, _ in mcp_skills(definition)}


def lock(project: Path, text: str, catalogue: Catalogue = FOUND) -> str:
    """Write the lock of a definition file beside it."""
    definition = load(project, text, locked=False).definition
    found = found_of(definition, catalogue)
    written = lock_text(definition, found, "perstack.toml", 1_764_000_000_000)
    (project / "perstack.lock").write_text(written)
    return written


def catalogue_of(loaded: LoadedDefinition, name: str, key: str = "hello") -> Catalogue | None:
    skill = loaded.definition.experts[key].skills[name]
    assert isinstance(skill, (McpStdioSkill, McpHttpSkill))
    return skill.catalogue


def test_a_lock_is_read_back_as_it_was_written(project: Path) -> None:
    text = expert(FIND + WEB)
    lock(project, text)
    loaded = load(project, text)
    assert catalogue_of(loaded, "find") == FOUND
    assert catalogue_of(loaded, "web") == FOUND
    plain = load(project, text, locked=False).definition
    assert loaded.definition == with_catalogues(plain, found_of(plain))
    assert loaded.notices == ()
    assert loaded.lock is not None


def test_only_the_time_differs_between_two_locks_of_the_same(project: Path) -> None:
    definition = load(project, expert(FIND + WEB), locked=False).definition
    first, second = (
        lock_text(definition, found_of(definition), "perstack.toml", time) for time in (1, 2)
    )
    differing = [a for a, b in zip(first.splitlines(), second.splitlines(), strict=True) if a != b]
    assert differing == ["generatedAt = 1"]


def test_the_order_of_what_a_server_says_does_not_matter(project: Path) -> None:
    text = expert(FIND)
    turned = FOUND.model_copy(update={"tools": FOUND.tools[::-1]})
    assert lock(project, text) == lock(project, text, turned)


def test_a_lock_has_the_form_of_the_seed_and_more(project: Path) -> None:
    found = tomllib.loads(lock(project, expert(FIND)))
    assert (found["version"], found["configPath"]) == ("1", "perstack.toml")
    hello = found["experts"]["hello"]
    assert hello["skills"]["find"]["packageVersion"] == "1.2.3"
    assert hello["skills"]["find"]["serverVersion"] == "1.2.3"
    search = next(tool for tool in hello["toolDefinitions"] if tool["name"] == "search")
    assert (search["skillName"], search["description"]) == ("find", SEARCH.description)
    assert search["inputSchema"] == SEARCH.input_schema
    assert json.loads(search["outputSchema"]) == SEARCH.output_schema  # TOML has no null
    assert (search["readOnly"], search["idempotent"]) == (True, False)
    assert search["digest"] == SEARCH.digest


def test_a_lock_has_no_secret_and_names_of_them_only(project: Path) -> None:
    written = lock(project, expert(WEB))
    assert 'Authorization = "Bearer ${WEB_KEY}"' in written


def test_a_skill_that_changed_is_an_error_on_its_line_that_says_what_changed(
    project: Path,
) -> None:
    lock(project, expert(FIND + WEB))
    changed = FIND.replace("finder@1.2.3", "finder@2.0.0")
    found = problem(project, expert(changed + WEB))
    assert found == (
        "perstack.toml:3: skill 'find' is not as it was locked: it was changed since "
        "perstack.lock was written (args was ['-y', 'finder@1.2.3'] and is "
        "['-y', 'finder@2.0.0']): run `peritus lock`"
    )
    found = problem(project, expert(FIND + WEB.replace("WEB_KEY", "OTHER_KEY")))
    assert "headers was" in found


def test_what_was_added_or_taken_away_is_told(project: Path) -> None:
    lock(project, expert(WEB))
    oauth = WEB.replace('headers = { Authorization = "Bearer ${WEB_KEY}" }', "")
    oauth += 'oauth = { grant = "authorization_code" }'
    found = problem(project, expert(oauth))
    assert "oauth is new" in found
    assert "headers was {'Authorization': 'Bearer ${WEB_KEY}'} and is {}" in found


def test_a_skill_that_is_not_in_the_lock_is_an_error(project: Path) -> None:
    lock(project, expert(FIND))
    found = problem(project, expert(FIND + WEB))
    assert found.startswith("perstack.toml:8: skill 'web' is not as it was locked: ")
    assert found.endswith("perstack.lock does not have it: run `peritus lock`")


def test_how_tools_are_used_may_change_without_a_new_lock(project: Path) -> None:
    lock(project, expert(FIND))
    used = FIND + 'pick = ["search"]\nrule = "x"\ntimeout = 5\ntools.search = { timeout = 9 }\n'
    assert catalogue_of(load(project, expert(used)), "find") == FOUND


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ('pick = ["serch"]', "the server has no tool 'serch'; did you mean 'search'?"),
        ('omit = ["delete"]', "the server has no tool 'delete'; it has ask, fetch, search"),
        ("tools.Fetch = { timeout = 1 }", "did you mean 'fetch'?"),
    ],
)
def test_tools_that_a_locked_server_does_not_have_are_errors(
    project: Path, key: str, says: str
) -> None:
    lock(project, expert(FIND))
    found = problem(project, expert(FIND + key))
    assert found.startswith("perstack.toml:8: ")
    assert says in found


def test_rules_about_tools_are_checked_against_what_a_locked_server_offers(
    project: Path,
) -> None:
    rule = '[[policy]]\nverdict = "deny"\nskill = "find"\ntool = "serch"\n'
    load(project, expert(FIND) + rule)  # nobody knows what there is
    lock(project, expert(FIND))
    assert "has a tool 'serch'; did you mean 'search'?" in problem(project, expert(FIND) + rule)
    load(project, expert(FIND) + rule.replace("serch", "search"))
    load(project, expert(FIND) + rule.replace("serch", "prompt_ask"))
    left_out = expert(FIND + 'omit = ["search"]\n')
    load(project, left_out + rule.replace("serch", "search"))  # it keeps out what is out


def test_experts_of_included_files_are_in_the_lock_of_the_first_file(project: Path) -> None:
    files = {
        "perstack.toml": 'include = ["team/more.toml"]\n' + expert('delegates = ["helper"]'),
        "team/more.toml": expert(FIND.replace(".hello.", ".helper."), name="helper"),
    }
    write(project, files)
    lock(project, files["perstack.toml"])
    loaded = load(project, files["perstack.toml"])
    assert catalogue_of(loaded, "find", "helper") == FOUND
    assert not (project / "team" / "more.lock").exists()


def test_a_file_of_another_name_has_a_lock_of_its_own(project: Path) -> None:
    lock(project, expert(FIND))
    from peritus.definitions import load_definition  # noqa: PLC0415 - of one test

    (project / "other.toml").write_text(expert(WEB))
    assert load_definition(project / "other.toml").lock is None


SEED = """\
version = "1"
generatedAt = 1764000000000
configPath = "/somewhere/perstack.toml"

[experts.hello]
key = "hello"
name = "hello"
version = "1.0.0"
instruction = "Work."
delegates = []
tags = []

[experts.hello.skills.find]
type = "mcpStdioSkill"
name = "find"
pick = []
omit = []
command = "npx"
packageName = "finder@1.2.3"
requiredEnv = ["FINDER_KEY"]
lazyInit = false

[[experts.hello.toolDefinitions]]
skillName = "@perstack/base"
name = "exec"
[experts.hello.toolDefinitions.inputSchema]
type = "object"

[[experts.hello.toolDefinitions]]
skillName = "find"
name = "search"
description = "Finds."
[experts.hello.toolDefinitions.inputSchema]
type = "object"
[experts.hello.toolDefinitions.inputSchema.properties.q]
type = "string"
"""


def test_a_lock_of_the_seed_is_read_and_told_to_know_a_part_only(project: Path) -> None:
    (project / "perstack.lock").write_text(SEED)
    loaded = load(project, expert(FIND))
    (note,) = loaded.notices
    assert note.startswith("perstack.toml:3: perstack.lock is one of the seed")
    assert note.endswith("run `peritus lock` to start without")
    assert catalogue_of(loaded, "find") is None
    assert loaded.lock is not None
    locked = loaded.lock.find("hello", "find")
    assert locked is not None
    assert [tool.name for tool in locked.catalogue.tools] == ["search"]
    assert not locked.whole


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("= 1", "Invalid"),
        ("version = 1\nexperts = 3", "experts: Input should be"),
        ('version = "2"', "it is of version 2, not 1"),
        ("generatedAt = 1", "version: Field required"),
        (SEED.replace('skillName = "find"', ""), "skillName: Field required"),
        (SEED.replace(".inputSchema", ".schema"), "inputSchema: Field required"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_lock_that_cannot_be_read_is_an_error_and_says_what_to_do(
    project: Path, text: str, says: str
) -> None:
    (project / "perstack.lock").write_bytes(text.encode(errors="surrogateescape"))
    (found,) = [line for line in problems(project, expert(FIND)) if "perstack.lock" in line]
    assert found.startswith("perstack.lock: the lock cannot be used: ")
    assert says in found
    assert found.endswith("run `peritus lock`")


def test_a_lock_changed_by_hand_is_not_believed(project: Path) -> None:
    written = lock(project, expert(FIND))
    (project / "perstack.lock").write_text(written.replace("readOnly = false", "readOnly = true"))
    with pytest.raises(DefinitionError, match=r"is not what was found: it was changed by hand"):
        read_lock(project / "perstack.lock")


def test_a_folder_in_the_place_of_a_lock_is_an_error(project: Path) -> None:
    (project / "perstack.lock").mkdir()
    assert "Is a directory" in problem(project, expert(FIND))


def test_no_lock_is_no_lock(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "perstack.lock") is None


def test_a_package_without_a_version_is_pinned_to_the_one_that_was_found(project: Path) -> None:
    text = expert(FIND.replace("finder@1.2.3", "finder"))
    lock(project, text)
    skill = load(project, text).definition.experts["hello"].skills["find"]
    assert isinstance(skill, McpStdioSkill)
    assert skill.args == ("-y", "finder@1.2.3")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PLAIN = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    PLAIN | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner)
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_every_schema_without_a_null_is_the_same_in_toml(value: dict[str, Any]) -> None:
    found = tomllib.loads(f"v = {toml_value(value)}")["v"]
    assert json.dumps(found) == json.dumps(value)  # in the same order


@given(
    st.lists(
        st.builds(
            RemoteTool,
            name=TEXTS.filter(bool),
            description=TEXTS,
            input_schema=st.dictionaries(TEXTS, VALUES | st.none(), max_size=3),
            output_schema=st.none() | st.dictionaries(TEXTS, VALUES, max_size=2),
            read_only=st.booleans(),
            idempotent=st.booleans(),
        ),
        unique_by=lambda tool: tool.name,
        max_size=4,
    )
)
def test_every_catalogue_survives_a_lock(tmp_path_factory: Any, tools: list[RemoteTool]) -> None:
    folder = tmp_path_factory.mktemp("lock")
    catalogue = Catalogue(server="s", tools=tuple(sorted(tools, key=lambda tool: tool.name)))
    lock(folder, expert(FIND), catalogue)
    found = read_lock(folder / "perstack.lock")
    assert isinstance(found, Lock)
    locked = found.find("hello", "find")
    assert locked is not None
    assert locked.catalogue == catalogue
    assert [tool.digest for tool in locked.catalogue.tools] == [
        tool.digest for tool in catalogue.tools
    ]


def test_a_login_is_a_part_of_what_is_locked(project: Path) -> None:
    text = expert(WEB.replace("headers", "#") + 'oauth = { grant = "authorization_code" }')
    written = lock(project, text)
    assert 'oauth = { grant = "authorization_code", scopes = [] }' in written
    skill = load(project, text).definition.experts["hello"].skills["web"]
    assert isinstance(skill, McpHttpSkill)
    assert skill.oauth == OAuth(grant="authorization_code")


@pytest.mark.parametrize(
    ("text", "key"),
    [(FIND, 'sampling = "allow"'), (WEB, 'sampling = "allow"'), (FIND, "shared = true")],
)
def test_what_a_server_is_told_of_us_is_a_part_of_what_is_locked(
    project: Path, text: str, key: str
) -> None:
    """A server may offer more to who lets it ask a model, and to who shows it a folder."""
    lock(project, expert(text))
    name = key.partition(" ")[0]
    assert f"{name} is new" in problem(project, expert(f"{text}{key}\n"))
    written = lock(project, expert(f"{text}{key}\n"))
    assert key in written
    assert f"{name} is gone" in problem(project, expert(text))
