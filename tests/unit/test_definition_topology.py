"""Who may call whom by the keys of experts, and circles of calls. Not what a call does."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.definition import BASE_SKILL, TopologySkill
from domain.team_tools import ARGUMENTS as TEAM_TOOLS
from domain.topology import edge_problem, find_cycles, key_problem, name_of, scope_of
from tests.support.definitions import expert, hello, load, problem

ALLOWED = [
    ("a", "@a/one"),
    ("a", "b"),
    ("@a/one", "@a/two"),
    ("@a/one", "b"),
    ("a@1.0.0", "@a/one"),
    ("@a/one@1.0.0", "@a/two@latest"),
]
FORBIDDEN = [
    ("a", "a", "itself"),
    ("a@1.0.0", "a@2.0.0", "itself"),
    ("@a/one", "@a/one@1.0.0", "itself"),
    ("a", "@b/one", "a delegate of 'b' only"),
    ("@a/one", "@b/one", "a delegate of 'b' only"),
    ("@a/one", "a", "its own coordinator"),
    ("@a/one", "a@1.0.0", "its own coordinator"),
]

KEYS = st.sampled_from(["a", "b", "c", "@a/x", "@a/y", "@b/x", "a@1.0.0", "@a/x@latest"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("caller", "delegate"), ALLOWED)
def test_calls_go_down_across_and_over_to_other_coordinators(caller: str, delegate: str) -> None:
    assert edge_problem(caller, delegate) is None


@pytest.mark.parametrize(("caller", "delegate", "says"), FORBIDDEN)
def test_other_calls_are_refused_with_the_reason(caller: str, delegate: str, says: str) -> None:
    assert says in str(edge_problem(caller, delegate))


@given(KEYS, KEYS)
def test_no_call_crosses_into_another_scope_or_goes_up(caller: str, delegate: str) -> None:
    if edge_problem(caller, delegate) is None:
        own = scope_of(caller) or name_of(caller)
        assert scope_of(delegate) in {"", own}
        assert (scope_of(delegate), name_of(delegate)) != (scope_of(caller), name_of(caller))
        assert scope_of(delegate) or not scope_of(caller) or name_of(delegate) != own


@pytest.mark.parametrize(
    ("key", "scope", "name"),
    [("a", "", "a"), ("a.b@1.0.0", "", "a.b"), ("@a/b", "a", "b"), ("@a/b@latest", "a", "b")],
)
def test_key_has_a_scope_and_a_name(key: str, scope: str, name: str) -> None:
    assert (scope_of(key), name_of(key)) == (scope, name)
    assert key_problem(key) is None


@pytest.mark.parametrize("key", ["", "A", "@a", "@a/", "a/b", "a@", "a b", "a" * 512, "@a/b/c"])
def test_other_keys_are_refused(key: str) -> None:
    assert "is not the key of an expert" in str(key_problem(key))


# circles


@pytest.mark.parametrize(
    ("edges", "circles"),
    [
        ({}, ()),
        ({"a": ["b"], "b": []}, ()),
        ({"a": ["b"], "b": ["a"]}, (("a", "b"),)),
        ({"b": ["a"], "a": ["b"], "c": ["a"]}, (("a", "b"),)),
        ({"a": ["a"]}, (("a",),)),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, (("a", "b", "c"),)),
        ({"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"]}, (("a", "b"), ("c", "d"))),
        ({"a": ["none"]}, ()),
        ({"a": ["b", "b"], "b": ["c"], "c": []}, ()),
    ],
)
def test_circles_are_found_once_each(
    edges: dict[str, list[str]], circles: tuple[tuple[str, ...], ...]
) -> None:
    assert find_cycles(edges) == circles


GRAPHS = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=4), max_size=6
)


def reachable(edges: dict[str, list[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges.get(start, []))
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting.extend(edges.get(key, []))
    return seen


@given(GRAPHS)
def test_every_expert_that_can_reach_itself_is_on_a_circle_that_is_real(
    edges: dict[str, list[str]],
) -> None:
    circles = find_cycles(edges)
    assert {key for circle in circles for key in circle} == {
        key for key in edges if key in reachable(edges, key)
    }
    for circle in circles:
        assert circle[0] == min(circle)
        for here, there in zip(circle, (*circle[1:], circle[0]), strict=True):
            assert there in edges[here]


def test_a_large_team_is_looked_through_without_recursion() -> None:
    ring = {str(number): [str((number + 1) % 5_000)] for number in range(5_000)}
    (circle,) = find_cycles(ring)
    assert len(circle) == 5_000


# in a file


def test_circle_of_coordinators_is_a_notice_on_the_line_of_its_first_edge(project: Path) -> None:
    text = expert('delegates = ["b"]', name="a") + expert('delegates = ["a"]', name="b")
    assert load(project, text).notices == (
        "perstack.toml:3: experts can call each other in a circle, "
        "which only depthMax bounds: a -> b -> a",
    )


def test_edge_that_is_forbidden_is_an_error(project: Path) -> None:
    text = expert('delegates = ["a"]', name="@a/one") + expert(name="a")
    assert problem(project, text) == (
        "perstack.toml:3: '@a/one' cannot delegate to 'a': "
        "a delegate cannot call its own coordinator"
    )


@pytest.mark.parametrize(
    "skill",
    [
        '"@perstack/skill-manager" = { }',
        '"@perstack/skill-manager" = { type = "topologySkill" }',
        '"@perstack/skill-manager" = { type = "mcpStdioSkill", command = "npx", '
        'packageName = "@perstack/skill-manager" }',
        'team = { type = "topologySkill" }',
    ],
)
def test_skill_manager_of_the_seed_is_a_topology_skill(project: Path, skill: str) -> None:
    loaded = load(project, expert(f"skills.{skill}"))
    assert loaded.notices == ()
    skills = loaded.definition.experts["hello"].skills
    assert [kind for name, kind in skills.items() if name != BASE_SKILL] == [TopologySkill()]


def test_topology_skill_keeps_what_is_picked_and_its_rule(project: Path) -> None:
    keys = 'skills.team = { type = "topologySkill", pick = ["createExpert", "addDelegate"], '
    found = hello(project, expert(f'{keys}omit = ["addDelegate"], rule = "Small teams." }}'))
    assert found.skills["team"] == TopologySkill(
        rule="Small teams.", pick=("createExpert", "addDelegate"), omit=("addDelegate",)
    )


def test_unknown_tool_of_a_topology_skill_is_an_error_with_a_suggestion(project: Path) -> None:
    keys = 'skills.team = { type = "topologySkill", pick = ["createExperts"] }'
    assert problem(project, expert(keys)) == (
        "perstack.toml:3: a topology skill has no tool 'createExperts'; "
        "did you mean 'createExpert'?"
    )


def test_what_would_start_another_program_for_a_topology_skill_is_a_notice(project: Path) -> None:
    keys = 'command = "sh"\nrequiredEnv = ["A"]\nallowedDomains = ["a.b"]'
    text = expert(f'[experts.hello.skills."@perstack/skill-manager"]\n{keys}')
    found = load(project, text).notices
    assert [notice.split(":")[1] for notice in found] == ["4", "5", "6"]


def test_tools_of_a_topology_skill_share_names_with_nothing(project: Path) -> None:
    keys = 'delegates = ["b"]\nskills.team = { type = "topologySkill" }'
    tool = "createExpert"
    assert tool in TEAM_TOOLS
    text = expert(keys) + expert(name="b")
    assert load(project, text).notices == ()
    local = f'skills.x = {{ type = "localSkill", tools = ["{tool}"] }}'
    assert "both have a tool" in problem(project, expert(f"{keys}\n{local}") + expert(name="b"))
