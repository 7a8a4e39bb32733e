"""`peritus tools`: what an expert can call is shown, and one call is tried. With real servers."""

import json

import pytest

from tests.e2e.cli_project import DEFINITION, Project
from tests.support.mini_server import REMOVE, SEARCH, mini_skill

pytestmark = [pytest.mark.broker, pytest.mark.sandbox]

RULES = """\
[[policy]]
verdict = "ask"
tool = "remove"
[[policy]]
verdict = "deny"
tool = "search"
arguments.q = "secret*"
"""

RULED = ["allow,", "or", "deny", "by", "arguments"]


@pytest.fixture
def team(project: Project) -> Project:
    one = mini_skill("helper", "find", SEARCH, REMOVE)
    two = mini_skill("helper", "also", SEARCH) + "timeout = 5000\n"
    project.write("perstack.toml", RULES + DEFINITION + one + two)
    return project


def test_every_tool_is_shown_with_where_it_leads_and_what_rules_say(team: Project) -> None:
    outcome = team.peritus("tools", "helper", "--json")

    assert outcome.code == 0, outcome.said
    found = {one["name"]: one for one in json.loads(outcome.out)}
    assert found["exec"]["where"] == "sandbox"
    assert found["exec"]["policy"] == "allow"
    assert found["attemptCompletion"]["where"] == "loop"
    remove = found["remove"]
    assert (remove["skill"], remove["safety"], remove["policy"]) == ("find", "unsafe", "ask")
    also = found["also__search"]
    assert (also["server_name"], also["timeout_ms"], also["safety"]) == (
        "search",
        5000,
        "read_only",
    )
    assert also["schema"] == SEARCH["inputSchema"]
    assert "search" not in found


def test_people_read_a_table_and_schemas_where_they_ask_for_them(team: Project) -> None:
    assert team.peritus("lock").code == 0

    table = team.peritus("tools", "helper")
    whole = team.peritus("tools", "list", "helper", "--schema")

    line = next(one for one in table.out.splitlines() if one.startswith("find__search"))
    assert line.split() == ["find__search", "find:", "search", "sandbox", "read", "only", *RULED]
    assert '"properties": {' not in table.out
    assert '"properties": {' in whole.out
    assert "asking" not in table.said  # the lock knows it all


def test_a_rule_means_a_tool_by_the_name_its_server_has_for_it(team: Project) -> None:
    words = ("tools", "call", "helper", "also__search", "--json")

    assert team.peritus(*words, "q=open").code == 0
    denied = team.peritus(*words, "q=secret plans")

    assert denied.code == 3
    assert denied.events[0]["outcome"] == "refused"


def test_a_call_by_hand_is_a_run_whose_answer_is_printed(team: Project) -> None:
    outcome = team.peritus("tools", "call", "helper", "find__search", "q=17", "n=17")

    assert outcome.code == 0, outcome.said
    assert outcome.out.splitlines()[-1] == 'search {"n": 17, "q": "17"}'
    run = outcome.said.rpartition("peritus: run ")[2].partition(":")[0]
    assert team.peritus("show", run).code == 0
    assert list((team.folder / ".peritus" / "by-hand").iterdir()) == []


def test_a_failure_of_the_tool_is_one_of_the_command(team: Project) -> None:
    args = '{"fail": true}'

    outcome = team.peritus("tools", "call", "helper", "find__search", "--args", args, "--json")

    assert outcome.code == 3
    (said,) = outcome.events
    assert (said["outcome"], said["is_error"]) == ("failed", True)
    assert said["text"] == 'search {"fail": true}'


def test_rules_hold_for_calls_by_hand(project: Project) -> None:
    rule = '[[policy]]\nverdict = "deny"\ntool = "search"\nreason = "Not today."\n'
    asks = '[[policy]]\nverdict = "ask"\ntool = "remove"\n'
    skill = mini_skill("helper", "find", SEARCH, REMOVE)
    project.write("perstack.toml", rule + asks + DEFINITION + skill)

    denied = project.peritus("tools", "call", "helper", "search", "q=x", "--json")
    asked = project.peritus("tools", "call", "helper", "remove", "--no-wait")

    assert denied.code == 3
    assert "Not today." in denied.out
    assert asked.code == 8
    run = asked.said.rpartition("peritus resume ")[2].strip()
    assert project.peritus("approve", run, "--yes").code == 0
    resumed = project.peritus("resume", run, "--no-json")
    assert resumed.code == 0, resumed.said
    assert "remove {}" in resumed.out


def test_a_base_tool_works_in_the_workspace_that_is_named(project: Project) -> None:
    words = ("tools", "call", "helper", "writeTextFile", "path=a.txt", "text=true")

    assert project.peritus(*words, "--workspace", "elsewhere").code == 0

    assert (project.folder / "elsewhere" / "a.txt").read_text() == "true"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("helper", "exce"), 2, "has no tool 'exce'; did you mean 'exec'?"),
        (("nobody", "exec"), 2, "no expert 'nobody' is defined"),
        (("helper", "exec", "ls"), 2, "'ls' is not NAME=VALUE"),
        (("helper", "exec", "a=1", "a=2"), 2, "'a' is given twice"),
        (("helper", "exec", "--args", "[1]"), 2, "--args must be a JSON object"),
        (("helper", "exec", "--args", "{"), 2, "--args is not JSON"),
    ],
)
def test_what_cannot_be_called_is_told(
    project: Project, words: tuple[str, ...], code: int, says: str
) -> None:
    outcome = project.peritus("tools", "call", *words)

    assert outcome.code == code
    assert says in " ".join(outcome.said.replace("│", "").split())


def test_an_expert_of_the_name_of_a_command_is_listed_by_the_long_form(project: Project) -> None:
    project.write("perstack.toml", DEFINITION.replace("helper", "call"))

    assert "exec" in project.peritus("tools", "list", "call").out
    assert project.peritus("tools").code in (0, 2)  # what there is, as every group says it
