"""Rules about calls as they are written in a definition. Not what is decided by them."""

from pathlib import Path

import pytest

from domain.policy import PolicyRule
from tests.support.definitions import HELLO, expert, hello, load, problem, problems

DENY = '[[policy]]\nverdict = "deny"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rules_keep_their_order_and_everything_that_is_said(project: Path) -> None:
    text = f"""\
{HELLO}
[[policy]]
verdict = "ask"
expert = "hel*"
skill = "@perstack/base"
tool = "exec"
reason = "It deletes."
arguments = {{ command = "rm", "args.0" = "-*" }}
[[policy]]
verdict = "allow"
"""
    assert load(project, text).definition.policy == (
        PolicyRule(
            verdict="ask",
            expert="hel*",
            skill="@perstack/base",
            tool="exec",
            arguments={"args.0": "-*", "command": "rm"},
            reason="It deletes.",
        ),
        PolicyRule(verdict="allow"),
    )


def test_rules_of_an_expert_are_its_own(project: Path) -> None:
    text = f'{HELLO}[[experts.hello.policy]]\nverdict = "deny"\ntool = "exec"\n'
    assert hello(project, text).policy == (PolicyRule(verdict="deny", tool="exec"),)
    assert load(project, text).definition.policy == ()
    assert problem(project, text + 'expert = "hello"') == (
        "perstack.toml:6: unknown key 'expert' in experts.hello.policy[0]"
    )


def test_nested_arguments_are_paths(project: Path) -> None:
    text = f'{HELLO}{DENY}arguments.env.HOME = "/*"\narguments."args.0" = "x"\n'
    (rule,) = load(project, text).definition.policy
    assert rule.arguments == {"args.0": "x", "env.HOME": "/*"}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('verdict = "refuse"', "4: policy[0].verdict: should be 'allow', 'ask' or 'deny'"),
        ('tool = "exec"', "3: 'verdict' is missing in policy[0]"),
        (
            'verdict = "deny"\ntols = "x"',
            "5: unknown key 'tols' in policy[0]; did you mean 'tool'?",
        ),
        ('verdict = "deny"\ntool = ""', "5: policy[0].tool: string should have at least 1"),
        (
            'verdict = "deny"\narguments.recursive = true',
            "5: policy[0].arguments.recursive must be a text: a pattern such as '*', or 'true'",
        ),
        (
            'verdict = "deny"\narguments.a.b = "x"\narguments."a.b" = "y"',
            "5: policy[0].arguments.a.b is given twice",
        ),
    ],
)
def test_wrong_rule_is_an_error_on_its_line(project: Path, keys: str, says: str) -> None:
    found = problem(project, f"{HELLO}[[policy]]\n{keys}\n")
    assert found.startswith(f"perstack.toml:{says}")


def test_rules_that_are_no_list_of_tables_are_an_error(project: Path) -> None:
    assert problem(project, f'{HELLO}[policy]\nverdict = "deny"\n') == (
        "perstack.toml:3: policy must be a list of tables: write [[policy]]"
    )
    found = problem(project, expert("policy = 1"))
    assert "experts.hello.policy must be a list of tables" in found


def test_too_many_rules_and_patterns_are_errors(project: Path) -> None:
    assert "policy may have 255 rules" in problem(project, DENY * 256 + HELLO)
    arguments = ", ".join(f'a{number} = "x"' for number in range(33))
    found = problem(project, f"{HELLO}{DENY}arguments = {{ {arguments} }}\n")
    assert "policy[0].arguments may have 32 patterns" in found


# names that nothing has


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('expert = "helo"', "no expert 'helo' is defined; did you mean 'hello'?"),
        ('skill = "@perstack/bse"', "has a skill '@perstack/bse'; did you mean '@perstack/base'?"),
        ('skill = "web"', "has a skill 'web'; there are @perstack/base, delegates"),
        ('tool = "exce"', "has a tool 'exce'; did you mean 'exec'?"),
        ('skill = "delegates"\ntool = "exec"', "no expert of this rule has a tool 'exec'"),
    ],
)
def test_name_that_nothing_has_is_an_error_with_a_suggestion(
    project: Path, keys: str, says: str
) -> None:
    (found,) = problems(project, f"{HELLO}{DENY}{keys}\n")
    assert says in found
    assert found.split(":")[1] == str(4 + len(keys.splitlines()))


@pytest.mark.parametrize(
    "keys",
    [
        'expert = "hell*"',
        'expert = "nobod?"',
        'skill = "*base"',
        'tool = "read*"',
        'tool = "[a-z]xec"',
        'tool = "exec"',
        'skill = "delegates"',
    ],
)
def test_patterns_and_known_names_are_fine(project: Path, keys: str) -> None:
    assert load(project, f"{HELLO}{DENY}{keys}\n").notices == ()


def test_tool_that_an_expert_leaves_out_may_be_named(project: Path) -> None:
    text = expert('skills."@perstack/base" = { omit = ["exec"] }')
    assert load(project, f'{text}{DENY}tool = "exec"\n').notices == ()


def test_tools_of_delegates_local_skills_and_questions_are_known(project: Path) -> None:
    keys = """\
delegates = ["writer"]
skills.shop = { type = "localSkill", tools = ["buy"] }
[experts.hello.skills.ask]
type = "interactiveSkill"
[experts.hello.skills.ask.tools.question]
inputJsonSchema = '{"type":"object"}'"""
    text = expert(keys) + expert(name="writer")
    for tool in ("writer", "buy", "question"):
        assert load(project, f'{text}{DENY}tool = "{tool}"\n').definition.policy
    found = problem(project, f'{text}{DENY}expert = "writer"\ntool = "buy"\n')
    assert "no expert of this rule has a tool 'buy'" in found


def test_tools_of_servers_and_of_teams_that_grow_are_not_known_beforehand(project: Path) -> None:
    server = expert('skills.web = { type = "mcpSseSkill", endpoint = "https://example.com" }')
    assert load(project, f'{server}{DENY}tool = "fetch"\n').definition.policy
    assert load(project, f'{server}{DENY}skill = "web"\ntool = "fetch"\n').definition.policy
    other = problem(project, f'{server}{DENY}skill = "@perstack/base"\ntool = "fetch"\n')
    assert "has a tool 'fetch'" in other
    team = expert('skills.team = { type = "topologySkill" }')
    assert load(project, f'{team}{DENY}tool = "reviewer"\n').definition.policy


def test_rule_of_an_expert_is_checked_against_that_expert(project: Path) -> None:
    text = expert(name="a") + expert(
        'skills.s = { type = "localSkill", tools = ["buy"] }', name="b"
    )
    rule = '[[experts.{}.policy]]\nverdict = "deny"\ntool = "buy"\n'
    assert load(project, text + rule.format("b")).definition.experts["b"].policy
    assert "has a tool 'buy'" in problem(project, text + rule.format("a"))


def test_rule_about_an_expert_that_is_wrong_itself_is_not_blamed(project: Path) -> None:
    text = f'{expert("tags = 1")}{DENY}tool = "whatever"\n'
    assert problem(project, text).startswith("perstack.toml:3: experts.hello.tags")
