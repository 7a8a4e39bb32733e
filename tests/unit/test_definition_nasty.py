"""Definitions with any value in any place: an error with a line or a definition, never a crash."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.definition import Definition
from peritus.definitions import DefinitionError, load_definition

SEED = (Path(__file__).parent / "seed" / "everything.toml").read_text()

NEW = """\
provider = "far"
fallbacks = ["openai/gpt-5", { provider = "far", model = "m", temperature = 0.1 }]
topP = 0.5
topK = 3
seed = 1
stop = ["a"]
maxOutputTokens = 100
include = []
[providers.far]
providerName = "openai-chat"
model = "m"
[providers.far.setting]
baseUrl = "https://a.b"
headers = { X-A = "b" }
organization = "o"
[limits]
budget = "2.50"
budgetSoft = 1.5
tokensMax = 10
wallTime = "1h"
answerTime = "none"
fanOutMax = 2
[variables]
name = "x"
other = { default = "y", description = "z" }
[prices."far/m"]
input = 1
output = "2"
cached = 0.5
cacheWrite = 3
asOf = "2026-01-01"
source = "here"
[prices."openai/*"]
input = 1
output = 1
[[policy]]
verdict = "ask"
expert = "a"
skill = "@perstack/base"
tool = "exec"
arguments = { command = "x", env = { HOME = "*" } }
reason = "r"
[experts.a]
instruction = "{{name}} {{other}}"
fallbacks = ["openai/gpt-5-mini"]
input = { type = "object", properties = { x = { "$ref" = "#/$defs/y" } }, "$defs" = { y = {} } }
output = '{"type": "string"}'
minRuntimeVersion = "1.0"
providerTools = []
providerSkills = []
[[experts.a.policy]]
verdict = "deny"
tool = "exec"
[experts.a.sandbox]
memory = "64MiB"
allowedDomains = ["a.b"]
[experts.a.secrets.X]
hosts = ["a.b"]
[experts.a.skills.team]
type = "topologySkill"
pick = ["createExpert"]
"""

VALUES = (
    *('""', '"x"', '"a/b"', '"{{"', '"{{name}}"', '"\\u0000"', '"é\\n"', "'''[[['''"),
    *("0", "-1", "1.5", "nan", "inf", "99999999999999999999999", "true", "false"),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"),
    *("[]", "[1]", '[""]', '["a", "a"]', "[[]]", "[{}]", '[{ type = "builtin" }]'),
    *("{}", "{ a = 1 }", '{ "" = "" }', '{ type = "x" }', '{ "$ref" = "#" }'),
    *(f'"{"x" * 3_000}"', f"[{', '.join(['1'] * 300)}]", "[" * 40 + "]" * 40),
)


def places(text: str) -> list[re.Match[str]]:
    """Everything in a text that is the whole value of a key on one line."""
    return list(re.finditer(r"(?<= = )[^\n]+$", text, re.MULTILINE))


@pytest.mark.parametrize("text", [SEED, NEW], ids=["seed", "new"])
def test_text_to_be_spoiled_is_right_itself(text: str, tmp_path: Path) -> None:
    (tmp_path / "perstack.toml").write_text(text)
    assert load_definition(tmp_path / "perstack.toml").definition.experts
    assert len(places(text)) > 40


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_value_in_any_place_is_an_error_with_a_line_or_a_definition(
    data: st.DataObject, tmp_path: Path
) -> None:
    text = data.draw(st.sampled_from([SEED, NEW]))
    for _ in range(data.draw(st.integers(min_value=1, max_value=3))):
        place = data.draw(st.sampled_from(places(text)))
        text = text[: place.start()] + data.draw(st.sampled_from(VALUES)) + text[place.end() :]
    path = tmp_path / "perstack.toml"
    path.write_text(text)
    found = outcome(path)
    if isinstance(found, DefinitionError):
        assert found.problems
        assert all(problem.line > 0 for problem in found.problems), found.message
    else:
        assert Definition.model_validate_json(found.to_bytes()) == found


def outcome(path: Path) -> Definition | DefinitionError:
    try:
        return load_definition(path).definition
    except DefinitionError as error:
        return error
