"""The tree of experts and what a check says, as lines and as JSON. Not the definitions."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.mcp import Catalogue, RemoteTool
from peritus.cli.experts import tree
from peritus.cli.main import main
from peritus.definitions.lock_file import lock_text
from tests.support.definitions import HELLO, expert, load, write


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERITUS_LOG_LEVEL", "warning")
    return tmp_path


def names(project: Path, text: str) -> list[str]:
    """The lines of the tree that name an expert, without what is said of it."""
    lines = tree(load(project, text).definition)
    return [line.partition("  ollama")[0] for line in lines if "skills: " not in line]


def ollama(**delegates: list[str]) -> str:
    experts = (expert(f"delegates = {to}", name=key) for key, to in delegates.items())
    return f'provider = "ollama"\n{"".join(experts)}'


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


# the tree


def test_delegates_stand_below_who_calls_them(project: Path) -> None:
    assert names(project, ollama(a=["b", "c"], b=["d"], c=[], d=[], e=[])) == [
        "a",
        "├─ b",
        "│  └─ d",
        "└─ c",
        "e",
    ]


def test_expert_that_is_called_twice_is_shown_in_full_once(project: Path) -> None:
    assert names(project, ollama(a=["b", "c"], b=["d"], c=["d"], d=["e"], e=[])) == [
        "a",
        "├─ b",
        "│  └─ d",
        "│     └─ e",
        "└─ c",
        "   └─ d (see above)",
    ]


def test_circle_ends_where_it_comes_back(project: Path) -> None:
    assert names(project, ollama(a=["b"], b=["c"], c=["a"])) == [
        "a",
        "└─ b",
        "   └─ c",
        "      └─ a (a circle)",
    ]


def test_circle_below_somebody_is_no_root_of_its_own(project: Path) -> None:
    assert names(project, ollama(b=["c"], c=["b"], z=["b"])) == [
        "z",
        "└─ b",
        "   └─ c",
        "      └─ b (a circle)",
    ]


def test_long_chain_is_shown_without_recursion(project: Path) -> None:
    chain = {f"e{number}": [f"e{number + 1}"] for number in range(1_500)}
    lines = names(project, ollama(**chain, e1500=[]))
    assert len(lines) == 1_501


def test_line_of_an_expert_says_models_schemas_skills_and_what_it_is_for(project: Path) -> None:
    keys = """\
description = "Sells."
fallbacks = ["openai/gpt-5"]
providerTools = []
skills.shop = { type = "localSkill", tools = ["buy", "sell"] }
input = { type = "object" }
output = { type = "string" }"""
    assert list(tree(load(project, expert(keys)).definition)) == [
        "hello  anthropic claude-sonnet-4-6 → openai gpt-5  typed input and output",
        "   Sells.",
        "   skills: @perstack/base (24), shop (2)",
    ]


# the commands


def test_experts_as_json_have_roots_circles_and_limits(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"maxSteps = 7\n{ollama(a=['b'], b=['c'], c=['b'])}"
    write(project, {"perstack.toml": text})

    code, out, _ = run(capsys, "experts", "--json")

    found: dict[str, Any] = json.loads(out)
    assert code == 0
    assert list(found["experts"]) == ["a", "b", "c"]
    assert found["experts"]["a"]["delegates"] == ["b"]
    assert found["experts"]["a"]["model"]["provider"] == "ollama"
    assert "exec" in found["experts"]["a"]["skills"]["@perstack/base"]["tools"]
    assert (found["roots"], found["circles"]) == (["a"], [["b", "c"]])
    assert found["limits"]["steps_max"] == 7


def test_experts_of_a_wrong_definition_are_none(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"perstack.toml": expert("colour = 1")})
    code, out, err = run(capsys, "experts")
    assert (code, out) == (2, "")
    assert "perstack.toml:3: unknown key 'colour'" in err


def test_check_tells_all_problems_of_all_files_at_once_and_notices_too(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "perstack.toml": f'include = ["more.toml"]\nruntime = "local"\n{expert("colour = 1")}',
        "more.toml": expert("colour = 1", name="b"),
    }
    write(project, files)

    code, out, err = run(capsys, "validate")

    assert code == 2
    assert err == ""
    assert out.splitlines() == [
        "· perstack.toml:2: 'runtime' has no effect: every expert runs in the runtime that "
        "reads this file",
        "✗ perstack.toml:5: unknown key 'colour' in experts.hello",
        "✗ more.toml:3: unknown key 'colour' in experts.b",
        "✗ perstack.toml cannot be used: 2 problems",
    ]
    code, out, _ = run(capsys, "validate", "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 2
    assert found["valid"] is False
    assert [(one["file"], one["line"]) for one in found["problems"]] == [
        *(("perstack.toml", 5), ("more.toml", 3)),
    ]
    assert [one["line"] for one in found["notices"]] == [2]
    assert run(capsys, "validate", "--lenient")[0] == 0


def test_check_of_a_right_definition_tells_its_models_and_their_prices(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"""\
{expert('model = "claude-sonnet-4-6"', name="a")}
{expert('provider = "ollama"', name="b")}
{expert('model = "unheard-of"', name="c")}
[[policy]]
verdict = "ask"
"""
    write(project, {"perstack.toml": text})

    code, out, _ = run(capsys, "validate")

    assert code == 0
    assert out.splitlines() == [
        "✓ perstack.toml: 3 experts, 1 file, 1 rule",
        "✓ anthropic claude-sonnet-4-6, 3.00 USD in, 15.00 out per million tokens (2026-10-24): a",
        "✓ anthropic unheard-of, price not known: c",
        "✓ ollama gpt-oss:20b, free of charge: b",
    ]
    found: dict[str, Any] = json.loads(run(capsys, "validate", "--json")[1])
    assert (found["valid"], found["problems"]) == (True, [])
    assert found["experts"] == ["a", "b", "c"]
    assert found["digest"] == load(project, text).definition.digest()


def test_variables_may_be_open_in_a_check_and_unknown_ones_may_not(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = "[variables]\nname = { required = true }\n"
    text = f'{variables}[experts.a]\ninstruction = "Greet {{{{name}}}}."\n'
    write(project, {"perstack.toml": text})
    code, out, _ = run(capsys, "validate")
    assert code == 0
    assert "variable 'name' has no value" in out
    assert "has no value" not in run(capsys, "validate", "--var", "name=Ada")[1]
    code, _, err = run(capsys, "validate", "--var", "nmae=Ada")
    assert code == 2
    assert "did you mean 'name'?" in err


def test_definition_elsewhere_is_named_and_one_that_is_nowhere_is_bad_usage(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project / "other", {"perstack.toml": HELLO})
    assert run(capsys, "validate", "--config", "other/perstack.toml")[0] == 0
    code, _, err = run(capsys, "validate")
    assert code == 2
    assert "no perstack.toml in" in err


def test_operator_names_prices_and_folders_by_variables(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    price = '[prices."anthropic/claude-sonnet-4-6"]\ninput = 9\noutput = 9\n'
    write(project, {"prices.toml": price, "shared/team.toml": expert(name="b")})
    path = write(project / "own", {"perstack.toml": f'include = ["../shared/team.toml"]\n{HELLO}'})
    words = ("validate", "--config", str(path))
    assert "is outside of" in run(capsys, *words)[1]
    monkeypatch.setenv("PERITUS_PRICES_FILE", str(project / "prices.toml"))
    monkeypatch.setenv("PERITUS_INCLUDE_DIRS", f"{project / 'other'}, {project / 'shared'}")
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "9.00 USD in, 9.00 out per million tokens: b, hello" in out
    monkeypatch.setenv("PERITUS_PRICES_FILE", str(project / "none.toml"))
    assert run(capsys, *words)[0] == 2


def test_what_a_definition_says_cannot_move_the_cursor(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"perstack.toml": expert('"\\u001b[2J" = 1')})
    assert "\x1b" not in run(capsys, "validate")[1]
    write(project, {"perstack.toml": expert('description = "\\u001b[2J"')})
    assert "\x1b" not in run(capsys, "experts")[1]


# init


def test_example_is_written_into_a_new_folder_and_over_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "init", "a/b")
    assert code == 0
    assert "cd a/b && peritus run hello" in out
    assert sorted(path.name for path in (project / "a/b").iterdir()) == [
        *("README.md", "perstack.toml", "script.toml"),
    ]
    (project / "a/b/perstack.toml").unlink()
    code, _, err = run(capsys, "init", "a/b")
    assert code == 2
    assert "script.toml, README.md" in err
    assert not (project / "a/b/perstack.toml").exists()


def test_link_that_leads_nowhere_is_not_written_through(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "README.md").symlink_to(project / "elsewhere")
    assert run(capsys, "init")[0] == 2
    assert not (project / "elsewhere").exists()


def test_folder_that_is_a_file_and_unknown_template_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "file").write_text("")
    code, _, err = run(capsys, "init", "file/x")
    assert code == 7
    assert "cannot be written" in err
    code, _, err = run(capsys, "init", "--template", "tema")
    assert code == 2
    assert "did you mean 'team'?" in err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("template", ["hello", "team"])
def test_example_is_right(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "init", "--template", template)[0] == 0
    code, out, _ = run(capsys, "validate")
    assert code == 0
    assert "·" not in out


# MCP servers

FIND = """\
[experts.hello.skills.find]
type = "mcpStdioSkill"
command = "npx"
packageName = "finder"
pick = ["search"]
"""


def lock(project: Path, text: str) -> None:
    """Write the lock of a definition whose one server offers two tools."""
    tools = tuple(RemoteTool(name=name, input_schema={}) for name in ("fetch", "search"))
    found = {("hello", "find"): Catalogue(server="finder", version="2.1.0", tools=tools)}
    definition = load(project, text, locked=False).definition
    (project / "perstack.lock").write_text(lock_text(definition, found, "perstack.toml", 1))


def test_servers_that_nobody_has_asked_are_told_to_be_asked_at_each_start(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"perstack.toml": expert() + FIND})
    code, out, _ = run(capsys, "validate")
    assert code == 0
    assert "✓ hello, find: asked for its tools at each start" in out
    assert "find (asked at each start)" in run(capsys, "experts")[1]
    found = json.loads(run(capsys, "validate", "--json")[1])
    assert found["lock"] is None
    assert found["servers"] == [{"expert": "hello", "skill": "find", "known": False}]
    shown = json.loads(run(capsys, "experts", "--json")[1])
    assert shown["experts"]["hello"]["skills"]["find"] == {"kind": "mcp_stdio", "tools": None}


def test_servers_that_a_lock_knows_are_shown_with_what_they_offer(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(project, expert() + FIND)
    code, out, _ = run(capsys, "validate")
    assert code == 0
    assert "✓ hello, find: finder 2.1.0, 2 tools, as perstack.lock says" in out
    assert "find (1)" in run(capsys, "experts")[1]  # what is picked
    found = json.loads(run(capsys, "validate", "--json")[1])
    assert found["lock"] == "perstack.lock"
    assert found["servers"] == [{"expert": "hello", "skill": "find", "known": True}]
    shown = json.loads(run(capsys, "experts", "--json")[1])
    assert shown["experts"]["hello"]["skills"]["find"]["tools"] == ["search"]


def test_a_lock_that_does_not_fit_makes_the_check_fail(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock(project, expert() + FIND)
    write(project, {"perstack.toml": expert() + FIND.replace('"finder"', '"loser"')})
    code, out, _ = run(capsys, "validate")
    assert code == 2
    assert "perstack.toml:4: skill 'find' is not as it was locked" in out
    assert "run `peritus lock`" in out
