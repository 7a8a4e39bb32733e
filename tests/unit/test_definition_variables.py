"""Variables in the texts of a definition: where a value comes from, and where it is put."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Rejected
from peritus.definitions import parse_variables
from peritus.definitions.report import Report
from peritus.definitions.variables import Variables
from tests.support.definitions import expert, hello, load, problem, problems

CITY = '[variables]\ncity = "Rome"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(instruction: str) -> str:
    return f"[experts.hello]\ninstruction = '{instruction}'\n"


def test_default_goes_into_the_text_and_into_the_record(project: Path) -> None:
    definition = load(project, CITY + said("Go to {{city}}, {{ city }}.")).definition
    assert definition.experts["hello"].instruction == "Go to Rome, Rome."
    assert definition.variables == {"city": "Rome"}


def test_value_of_the_caller_beats_the_default(project: Path) -> None:
    definition = load(project, CITY + said("{{city}}"), variables={"city": "Oslo"}).definition
    assert definition.experts["hello"].instruction == "Oslo"
    assert definition.variables == {"city": "Oslo"}


def test_values_are_part_of_the_digest(project: Path) -> None:
    text = CITY + said("{{city}}")
    one = load(project, text).definition.digest()
    assert load(project, text, variables={"city": "Rome"}).definition.digest() == one
    assert load(project, text, variables={"city": "Oslo"}).definition.digest() != one


def test_description_and_rules_of_skills_have_variables_too(project: Path) -> None:
    keys = 'description = "Of {{city}}."\nskills."@perstack/base" = { rule = "In {{city}}." }'
    found = hello(project, CITY + expert(keys))
    assert found.description == "Of Rome."
    assert [skill.rule for skill in found.skills.values()] == ["In Rome."]


def test_value_is_never_looked_into_again(project: Path) -> None:
    text = '[variables]\na = "{{b}}"\nb = "{{{{a}}"\n' + said("{{a}} {{b}}")
    assert hello(project, text).instruction == "{{b}} {{{{a}}"
    assert hello(project, text, variables={"b": "{{a}}"}).instruction == "{{b}} {{a}}"


def test_four_braces_are_two_and_closing_ones_are_text(project: Path) -> None:
    text = CITY + said('{{{{city}} {"a": {"b": {"c": 1}}} {{city}}}')
    assert hello(project, text).instruction == '{{city}} {"a": {"b": {"c": 1}}} Rome}'


@given(st.text(alphabet="{}a b", max_size=30))
def test_any_text_can_be_written_with_the_escape(text: str) -> None:
    report = Report("perstack.toml")
    variables = Variables(report, {"a": "value"}, declared=True)
    escaped = text.replace("{{", "{{{{")
    assert variables.put_into(escaped, ("x",), 1_000) == text
    assert report.problems == ()


def test_unknown_name_is_an_error_with_a_suggestion_on_the_line_of_the_text(project: Path) -> None:
    assert problem(project, CITY + said("{{ctiy}} {{city}}")) == (
        "perstack.toml:4: experts.hello.instruction: unknown variable 'ctiy'; did you mean 'city'?"
    )


@pytest.mark.parametrize("written", ["{{", "{{ }}", "{{1a}}", "{{a.b}}", "{{city", "{{{city}}}"])
def test_braces_that_begin_no_variable_are_an_error_that_shows_the_escape(
    project: Path, written: str
) -> None:
    found = problem(project, CITY + said(f"{written} {{{{city}}}}"))
    assert found == (
        "perstack.toml:4: experts.hello.instruction: '{{' begins a variable such as '{{name}}'; "
        "two literal braces are written as '{{{{'"
    )


def test_without_declared_variables_braces_are_text_and_a_notice_tells_of_names(
    project: Path,
) -> None:
    loaded = load(project, said("{{city}} ${{ secrets.X }} {{{{"))
    assert loaded.definition.experts["hello"].instruction == "{{city}} ${{ secrets.X }} {{{{"
    (notice,) = loaded.notices
    assert notice.startswith("perstack.toml:2: experts.hello.instruction: '{{city}}' stays as it")
    assert load(project, said("${{ secrets.X }} {{{{")).notices == ()


def test_required_variable_has_to_be_given(project: Path) -> None:
    text = f"[variables]\ncity = {{ required = true }}\n{said('{{city}}')}"
    assert problem(project, text) == (
        "perstack.toml:2: variable 'city' has no value: give it with --var city=VALUE"
    )
    assert hello(project, text, variables={"city": "Oslo"}).instruction == "Oslo"


def test_empty_value_is_a_value_but_an_empty_instruction_is_none(project: Path) -> None:
    text = f"{CITY}{said('{{city}}')}"
    assert problem(project, text, variables={"city": ""}) == (
        "perstack.toml:4: experts.hello.instruction is empty"
    )
    assert hello(project, f"{CITY}{said('x{{city}}')}", variables={"city": ""}).instruction == "x"


def test_who_only_looks_may_leave_required_variables_open(project: Path) -> None:
    text = f"[variables]\ncity = {{ required = true }}\n{said('{{city}}')}"
    loaded = load(project, text, variables_open=True)
    assert loaded.definition.experts["hello"].instruction == "{{city}}"
    assert loaded.definition.variables == {}
    assert loaded.notices == (
        "perstack.toml:2: variable 'city' has no value: give it with --var city=VALUE",
    )


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("city = 1", "variables.city must be a text, or a table"),
        ("city = { }", "variables.city needs one of 'default' and required = true"),
        ('city = { default = "a", required = true }', "needs one of 'default' and required"),
        ('city = { defualt = "a" }', "unknown key 'defualt' in variables.city; did you mean"),
        ('"a b" = "c"', "'a b' cannot name a variable"),
        (f'city = "{"x" * 20_481}"', "variables.city has more than 20480 characters"),
    ],
)
def test_wrong_variable_is_an_error_on_its_line(project: Path, variable: str, says: str) -> None:
    found = problems(project, f"[variables]\n{variable}\n{said('x')}")
    assert found[0].startswith("perstack.toml:2: ")
    assert says in found[0]


def test_table_with_a_default_and_a_description_is_a_variable(project: Path) -> None:
    text = f'[variables.city]\ndefault = "Rome"\ndescription = "Where."\n{said("{{city}}")}'
    assert hello(project, text).instruction == "Rome"


def test_variable_that_is_in_no_text_is_a_notice(project: Path) -> None:
    assert load(project, CITY + said("x")).notices == (
        "perstack.toml:2: variable 'city' is in no instruction, description or rule",
    )


def test_text_that_grows_too_long_is_an_error(project: Path) -> None:
    found = problem(project, CITY + said("{{city}}{{city}}"), variables={"city": "x" * 20_000})
    assert found == (
        "perstack.toml:4: experts.hello.instruction has 40000 characters with its variables: "
        "at most 20480 are allowed"
    )


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"ctiy": "x"}, "unknown_variable", "did you mean 'city'?"),
        ({"other": "x"}, "unknown_variable", "declare it in [variables]"),
        ({"city": "x" * 20_481}, "bad_variable", "more than 20480 characters"),
        ({"city": "\udcff"}, "bad_variable", "is not Unicode text"),
    ],
)
def test_value_that_cannot_be_used_is_refused(
    project: Path, given: dict[str, str], code: str, says: str
) -> None:
    with pytest.raises(Rejected) as caught:
        load(project, CITY + said("{{city}}"), variables=given)
    assert caught.value.code == code
    assert says in caught.value.message


def test_flags_are_names_and_values() -> None:
    assert parse_variables(None) == {}
    assert parse_variables(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


@pytest.mark.parametrize("flags", [["a"], ["=b"], ["a b=c"], ["1=c"], ["a=b", "a=c"]])
def test_other_flags_are_refused(flags: list[str]) -> None:
    with pytest.raises(Rejected) as caught:
        parse_variables(flags)
    assert caught.value.code == "bad_variable"
