"""Definitions in several files: what may be included, from where, and whose line an error names."""

from pathlib import Path

import pytest

from peritus.definitions import DefinitionError, Operator, load_definition
from peritus.definitions import include as including
from tests.support.definitions import HELLO, write

ONE = 'include = ["one.toml"]\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def problems(project: Path, files: dict[str, str]) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_definition(write(project, files))
    return caught.value.message.splitlines()


def named(name: str, keys: str = "") -> str:
    return f'[experts.{name}]\ninstruction = "x"\n{keys}\n'


def test_experts_rules_prices_and_variables_come_from_any_file(project: Path) -> None:
    files = {
        "perstack.toml": f"""\
include = ["team/one.toml", "two.toml"]
[[policy]]
verdict = "deny"
tool = "exec"
[variables]
top = "t"
{named("root", 'delegates = ["a"]')}""",
        "team/one.toml": """\
include = ["deeper/three.toml", "../four.toml"]
[[policy]]
verdict = "ask"
expert = "a"
[variables]
own = "o"
[prices."anthropic/one"]
input = 1
output = 1
[experts.a]
model = "one"
instruction = "{{top}} {{own}}"
""",
        "team/deeper/three.toml": named("c"),
        "four.toml": named("d"),
        "two.toml": named("b"),
    }
    loaded = load_definition(write(project, files))
    definition = loaded.definition
    assert loaded.notices == ()
    assert list(definition.experts) == ["a", "b", "c", "d", "root"]
    assert [rule.verdict for rule in definition.policy] == ["deny", "ask"]
    assert definition.experts["a"].instruction == "t o"
    assert definition.experts["a"].model.price is not None
    names = [str(path.relative_to(project)) for path in loaded.files]
    assert names == [
        *("perstack.toml", "team/one.toml", "team/deeper/three.toml", "four.toml", "two.toml"),
    ]


def test_one_file_may_be_named_without_a_list(project: Path) -> None:
    files = {"perstack.toml": 'include = "one.toml"\n', "one.toml": named("a")}
    assert list(load_definition(write(project, files)).definition.experts) == ["a"]


def test_order_and_place_of_files_make_no_difference_to_the_digest(project: Path) -> None:
    apart = {"perstack.toml": f"{ONE}{named('b')}", "one.toml": named("a")}
    whole = {"perstack.toml": named("a") + named("b")}
    digest = load_definition(write(project, apart)).definition.digest()
    assert load_definition(write(project, whole)).definition.digest() == digest


def test_every_error_names_its_own_file_and_line_the_first_file_first(project: Path) -> None:
    found = problems(
        project,
        {
            "perstack.toml": f'{ONE}[[policy]]\nverdict = "no"\n{named("z", "colour = 1")}',
            "one.toml": f"""\

[[policy]]
verdict = "deny"
tol = "exec"
[variables]
v = 1
[prices."nobody/x"]
input = 1
{named("a", "temprature = 1")}
[experts.a.sandbox]
memory = "x"
""",
        },
    )
    assert [line.rpartition(": ")[0].split(": ")[0] for line in found] == [
        *("perstack.toml:3", "perstack.toml:6"),
        *("one.toml:4", "one.toml:6", "one.toml:7", "one.toml:7", "one.toml:11", "one.toml:14"),
    ]


def test_what_is_missing_is_missed_in_the_file_of_the_expert(project: Path) -> None:
    files = {"perstack.toml": ONE, "one.toml": "\n\n[experts.a]\n"}
    assert problems(project, files) == ["one.toml:3: 'instruction' is missing in experts.a"]


@pytest.mark.parametrize(
    ("table", "place"),
    [
        (named("a"), "experts.a"),
        ('[prices."openai/x"]\ninput = 1\noutput = 1\n', 'prices."openai/x"'),
        ('[variables]\nv = "1"\n', "variables.v"),
    ],
)
def test_one_name_in_two_files_is_an_error_that_names_both_places(
    project: Path, table: str, place: str
) -> None:
    (found,) = [
        line
        for line in problems(
            project,
            {"perstack.toml": f"{ONE}{HELLO}{table}", "one.toml": f"\n\n{table}"},
        )
        if "twice" in line
    ]
    line = 5 if table.startswith("[variables]") else 4
    start = 4 if table.startswith("[variables]") else 3
    assert found == f"one.toml:{start}: {place} is defined twice: here and at perstack.toml:{line}"


def test_file_that_includes_itself_is_an_error(project: Path) -> None:
    (found,) = problems(project, {"perstack.toml": f'include = ["perstack.toml"]\n{HELLO}'})
    assert found == "perstack.toml:1: 'perstack.toml' includes itself: here"


def test_circle_of_files_is_an_error_that_names_the_places_that_make_it(project: Path) -> None:
    files = {
        "perstack.toml": f"{ONE}{HELLO}",
        "one.toml": '\ninclude = ["two.toml"]\n',
        "two.toml": '\n\ninclude = ["one.toml"]\n',
    }
    (found,) = problems(project, files)
    assert found == "two.toml:3: 'one.toml' includes itself: one.toml:2 and here"


def test_file_that_is_included_twice_is_an_error_that_names_both_places(project: Path) -> None:
    files = {
        "perstack.toml": f'include = ["one.toml", "two.toml"]\n{HELLO}',
        "one.toml": 'include = [\n  "three.toml",\n]\n',
        "two.toml": 'include = ["./three.toml"]\n',
        "three.toml": named("c"),
    }
    (found,) = problems(project, files)
    assert found == "two.toml:1: './three.toml' is included twice: here and at one.toml:2"


@pytest.mark.parametrize("entry", ["../other.toml", "a/../../other.toml", "/etc/hostname"])
def test_file_outside_of_the_folder_is_refused_whether_it_is_there_or_not(
    project: Path, entry: str
) -> None:
    (project.parent / "other.toml").write_text(named("other"))
    (found,) = problems(project, {"perstack.toml": f'include = ["{entry}"]\n{HELLO}'})
    assert found.startswith(f"perstack.toml:1: {entry!r} is outside of {str(project)!r}")
    assert "PERITUS_INCLUDE_DIRS" in found


def test_link_that_leads_outside_is_refused(project: Path) -> None:
    (project.parent / "other.toml").write_text(named("other"))
    (project / "link.toml").symlink_to(project.parent / "other.toml")
    (project / "folder").symlink_to(project.parent)
    for entry in ("link.toml", "folder/other.toml"):
        (found,) = problems(project, {"perstack.toml": f'include = ["{entry}"]\n{HELLO}'})
        assert "is outside of" in found


def test_operator_may_open_another_folder_and_no_other(project: Path) -> None:
    shared = project.parent / "shared"
    write(shared, {"team.toml": named("team"), "../beside.toml": named("beside")})
    operator = Operator(include_folders=(shared,))
    path = write(
        project,
        {"perstack.toml": f'include = ["../shared/team.toml", "{shared}/more.toml"]\n{HELLO}'},
    )
    (shared / "more.toml").write_text(named("more"))
    loaded = load_definition(path, operator=operator)
    assert list(loaded.definition.experts) == ["hello", "more", "team"]
    write(project, {"perstack.toml": f'include = ["../beside.toml"]\n{HELLO}'})
    with pytest.raises(DefinitionError, match="is outside of"):
        load_definition(path, operator=operator)


@pytest.mark.parametrize(
    ("include", "says"),
    [
        ('["none.toml"]', "'none.toml' is not there"),
        ('["folder"]', "'folder' is not a file"),
        ("[1]", "include must be a list of paths of files"),
        ('[""]', "include must be a list of paths of files"),
        ('["a\\u0000b"]', "include must be a list of paths of files"),
        ("{ a = 1 }", "include must be a list of paths of files"),
        (f'["{"x" * 5_000}"]', "cannot be read: "),
    ],
)
def test_include_that_leads_to_no_file_is_an_error(project: Path, include: str, says: str) -> None:
    (project / "folder").mkdir()
    (found,) = problems(project, {"perstack.toml": f"include = {include}\n{HELLO}"})
    assert found.startswith("perstack.toml:1: ")
    assert says in found


def test_links_in_a_circle_are_an_error_and_no_crash(project: Path) -> None:
    (project / "a.toml").symlink_to(project / "b.toml")
    (project / "b.toml").symlink_to(project / "a.toml")
    (found,) = problems(project, {"perstack.toml": f'include = ["a.toml"]\n{HELLO}'})
    assert found.startswith("perstack.toml:1: ")


def test_file_that_cannot_be_parsed_keeps_the_others_problems_from_nobody(project: Path) -> None:
    files = {
        "perstack.toml": f'include = ["one.toml", "two.toml"]\n{named("a", "colour = 1")}',
        "one.toml": "[experts\n",
        "two.toml": named("b", "colour = 1"),
    }
    found = problems(project, files)
    assert [line.split(": ")[0] for line in found] == [
        *("perstack.toml:4", "one.toml:1:9", "two.toml:3"),
    ]


@pytest.mark.parametrize("key", ['model = "m"', "[limits]", "[provider]", "[providers.x]"])
def test_included_file_decides_nothing_for_the_first(project: Path, key: str) -> None:
    (found,) = problems(project, {"perstack.toml": f"{ONE}{HELLO}", "one.toml": f"\n{key}\n"})
    name = key.strip("[]").split(" ")[0].split(".")[0]
    assert found == (
        f"one.toml:2: {name!r} has no place in an included file, which may hold experts, include, "
        "policy, prices, variables: write it in perstack.toml"
    )


def test_unknown_key_of_an_included_file_has_a_suggestion_and_may_be_lenient(project: Path) -> None:
    files = {"perstack.toml": f"{ONE}{HELLO}", "one.toml": '[variabels]\na = "b"\n'}
    (found,) = problems(project, files)
    assert found == (
        "one.toml:1: unknown key 'variabels' at the top of the file; did you mean 'variables'?"
    )
    loaded = load_definition(write(project, files), lenient=True)
    assert loaded.notices == (f"{found} (ignored)",)


@pytest.mark.parametrize(("key", "kind"), [("experts", "table"), ("policy", "list")])
def test_included_table_of_another_kind_is_an_error(project: Path, key: str, kind: str) -> None:
    files = {"perstack.toml": f"{ONE}{HELLO}", "one.toml": f"{key} = 1\n"}
    assert problems(project, files) == [f"one.toml:1: {key} must be a {kind}"]


def test_first_file_with_something_else_in_the_place_of_experts_is_reported(project: Path) -> None:
    files = {"perstack.toml": f"{ONE}experts = 1\npolicy = 1\n", "one.toml": named("a")}
    assert problems(project, files)[0] == "perstack.toml:2: experts must be a table"


def test_depth_number_and_size_of_files_are_bounded(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = {
        f"{number}.toml": f'include = ["{number + 1}.toml"]\n{named(f"e{number}")}'
        for number in range(including.DEPTH_MAX + 2)
    }
    (found,) = problems(project, {"perstack.toml": 'include = ["0.toml"]\n', **deep})
    last = including.DEPTH_MAX - 1
    assert found.startswith(f"{last}.toml:1: '{last + 1}.toml' is below {including.DEPTH_MAX}")
    monkeypatch.setattr(including, "FILES_MAX", 2)
    wide = {"perstack.toml": f'include = ["a.toml", "b.toml"]\n{HELLO}', "a.toml": "", "b.toml": ""}
    assert "'b.toml' is one too many" in problems(project, wide)[0]
    monkeypatch.setattr(including, "FILES_MAX", 9)
    monkeypatch.setattr(including, "BYTES_MAX", 100)
    wide["b.toml"] = "#" * 100
    assert "'b.toml' is too much" in problems(project, wide)[0]


def test_scripts_of_included_experts_start_at_their_own_file(project: Path) -> None:
    files = {
        "perstack.toml": 'include = ["team/one.toml"]\n',
        "team/one.toml": named("a", 'provider = "scripted"\nmodel = "script.toml"'),
        "team/script.toml": "",
    }
    loaded = load_definition(write(project, files))
    assert loaded.definition.experts["a"].model.model == str(project / "team" / "script.toml")
