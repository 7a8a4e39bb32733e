"""Names of remote tools: a server's own where that is possible, and the same in every order."""

import re
from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from domain.names import NAME_CHARS_MAX, TOOL_NAME, own_name, tool_names

SKILLS = st.text(max_size=20) | st.sampled_from(["web", "files", "a b", "ä", "web.", "x" * 80])
REMOTES = st.one_of(
    st.builds(
        "tool:{}".format, st.text(max_size=20) | st.sampled_from(["search", "a.b", "y" * 90])
    ),
    st.builds("prompt:{}".format, st.sampled_from(["search", "ask"])),
    st.sampled_from(["resources:", "resource:"]),
)
TOOLS = st.lists(st.tuples(SKILLS, REMOTES), max_size=12, unique=True)
TAKEN = st.sets(st.sampled_from(["search", "exec", "web__search", "readResource", "helper"]))


def test_a_tool_keeps_the_name_its_server_has_for_it() -> None:
    assert tool_names((), [("web", "tool:search")]) == {("web", "tool:search"): "search"}


def test_tools_of_one_name_are_told_apart_by_their_skills() -> None:
    names = tool_names((), [("web", "tool:search"), ("files", "tool:search")])
    assert names == {
        ("files", "tool:search"): "files__search",
        ("web", "tool:search"): "web__search",
    }


def test_a_name_that_a_base_tool_or_delegate_has_is_not_taken_from_it() -> None:
    assert tool_names({"exec"}, [("shell", "tool:exec")]) == {("shell", "tool:exec"): "shell__exec"}


def test_prompts_and_resources_say_what_they_are() -> None:
    names = tool_names(
        (), [("s", "tool:ask"), ("s", "prompt:ask"), ("s", "resources:"), ("s", "resource:")]
    )
    assert sorted(names.values()) == ["ask", "listResources", "prompt_ask", "readResource"]


def test_resources_of_two_servers_are_told_apart() -> None:
    names = tool_names((), [("a", "resource:"), ("b", "resource:")])
    assert sorted(names.values()) == ["a__readResource", "b__readResource"]


@pytest.mark.parametrize("name", ["a.b", "search web", "süchen", "", "x" * 65, "a/b", "§"])
def test_a_name_that_no_provider_takes_is_spelled_another_way_with_a_hash(name: str) -> None:
    (found,) = tool_names((), [("web", f"tool:{name}")]).values()
    assert found.startswith("web__")
    assert re.fullmatch(r"[0-9a-f]{8}", found.rpartition("_")[2])
    assert len(found) <= NAME_CHARS_MAX


def test_two_names_that_are_spelled_alike_are_still_two() -> None:
    names = tool_names((), [("web", "tool:a.b"), ("web", "tool:a b"), ("web", "tool:a/b")])
    assert len(set(names.values())) == 3
    assert {name[:9] for name in names.values()} == {"web__a_b_"}


def test_a_free_name_of_another_tool_is_not_given_to_one_that_needs_a_new_one() -> None:
    wanted = [("a", "tool:search"), ("b", "tool:search"), ("c", "tool:a__search")]
    names = tool_names((), wanted)
    assert names["c", "tool:a__search"] == "a__search"  # it is its own
    assert names["a", "tool:search"].startswith("a__search_")
    assert names["b", "tool:search"] == "b__search"


@given(TAKEN, TOOLS)
@example({"search"}, [("web", "tool:search"), ("web.", "tool:search")])
@example({"web__search"}, [("web", "tool:search"), ("files", "tool:search")])
def test_every_name_is_one_a_provider_takes_and_no_two_are_the_same(
    taken: set[str], wanted: list[tuple[str, str]]
) -> None:
    names = tool_names(taken, wanted)
    assert set(names) == set(wanted)
    assert all(TOOL_NAME.fullmatch(name) for name in names.values())
    assert len(set(names.values())) == len(names)
    assert not taken & set(names.values())


@given(TAKEN, TOOLS, st.randoms(use_true_random=False))
def test_names_do_not_depend_on_the_order_of_tools(
    taken: set[str], wanted: list[tuple[str, str]], random: Random
) -> None:
    turned = list(wanted)
    random.shuffle(turned)
    assert tool_names(taken, turned) == tool_names(taken, wanted)


@given(TOOLS)
def test_a_tool_whose_name_is_wanted_once_has_its_own(wanted: list[tuple[str, str]]) -> None:
    names = tool_names((), wanted)
    own = [own_name(remote) for _, remote in wanted]
    for tool, name in names.items():
        mine = own_name(tool[1])
        if own.count(mine) == 1 and TOOL_NAME.fullmatch(mine):
            assert name == mine


@given(TAKEN, TOOLS)
def test_a_tool_more_changes_no_name_that_is_told_apart_already(
    taken: set[str], wanted: list[tuple[str, str]]
) -> None:
    new = ("other", "tool:quiteNew")
    assume(new not in wanted and "quiteNew" not in taken)
    before, after = tool_names(taken, wanted), tool_names(taken, [*wanted, new])
    assert {tool: after[tool] for tool in wanted} == before
