"""What `load_definition` says about good and wrong files. Not which models it chooses."""

from pathlib import Path

import pytest

from domain.errors import Rejected
from domain.limits import Limits
from peritus.definitions import (
    DefinitionError,
    LoadedDefinition,
    find_config,
    load_definition,
)
from peritus.definitions.find import STARTER
from peritus.definitions.problems import SHOWN_MAX
from peritus.definitions.sources import FILE_BYTES_MAX

HELLO = '[experts.hello]\ninstruction = "Greet."\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(project: Path, text: str, *, lenient: bool = False) -> LoadedDefinition:
    path = project / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    return load_definition(path, lenient=lenient)


def problems(project: Path, text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load(project, text)
    return caught.value.message.splitlines()


def expert(keys: str = "", *, name: str = "hello") -> str:
    return f'[experts."{name}"]\ninstruction = "Work."\n{keys}\n'


# finding


def test_file_is_found_in_a_folder_above(project: Path) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    (project / "perstack.toml").write_text(HELLO)
    assert find_config(below) == (project / "perstack.toml").resolve()


def test_nearest_file_wins(project: Path) -> None:
    below = project / "a"
    below.mkdir()
    (project / "perstack.toml").write_text(HELLO)
    (below / "perstack.toml").write_text(HELLO)
    assert find_config(below) == (below / "perstack.toml").resolve()


def test_without_a_file_the_error_says_where_it_looked_and_how_to_make_one(project: Path) -> None:
    with pytest.raises(Rejected) as caught:
        find_config(project)
    assert caught.value.code == "no_definition_file"
    assert str(project) in caught.value.message
    assert "[experts.hello]" in caught.value.message


def test_starter_of_that_error_is_a_definition(project: Path) -> None:
    assert list(load(project, STARTER).definition.experts) == ["hello"]


def test_file_that_is_not_there_is_an_error_with_its_path(project: Path) -> None:
    with pytest.raises(DefinitionError, match=r"^none\.toml: cannot be read: No such file"):
        load_definition(project / "none.toml")


def test_path_is_shown_whole_when_it_is_outside_the_working_directory(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "perstack.toml"
    elsewhere.write_text(f"x = 1\n{HELLO}")
    with pytest.raises(DefinitionError) as caught:
        load_definition(elsewhere)
    assert caught.value.message.startswith(f"{elsewhere}:1: unknown key 'x'")
    assert project != elsewhere.parent


# syntax


def test_syntax_error_has_line_and_column(project: Path) -> None:
    (problem,) = problems(project, 'model = "x"\n[experts.hello\n')
    assert problem.startswith("perstack.toml:2:15: not TOML: ")
    assert "at line" not in problem


def test_syntax_error_at_the_end_has_the_last_line(project: Path) -> None:
    (problem,) = problems(project, 'model = "x"\ninstruction = """\nabc\n')
    assert problem.startswith("perstack.toml:3: not TOML: ")


def test_text_that_is_not_utf8_has_its_line(project: Path) -> None:
    path = project / "perstack.toml"
    path.write_bytes(b'model = "x"\n# \xff\n')
    with pytest.raises(DefinitionError, match=r"^perstack\.toml:2: not UTF-8$"):
        load_definition(path)


def test_byte_order_mark_is_no_syntax_error(project: Path) -> None:
    assert load(project, "\ufeff" + HELLO).notices == ()


def test_deep_nesting_is_an_error_and_no_crash(project: Path) -> None:
    (problem,) = problems(project, f"x = {'[' * 100_000}")
    assert problem == "perstack.toml: nested too deep"


# keys


def test_unknown_key_has_its_line_and_a_suggestion(project: Path) -> None:
    found = problems(project, '[experts.writer]\nversion = "1.0.0"\ninstrution = "x"\n')
    assert found == [
        "perstack.toml:1: 'instruction' is missing in experts.writer",
        "perstack.toml:3: unknown key 'instrution' in experts.writer; did you mean 'instruction'?",
    ]


def test_snake_case_key_gets_the_camel_case_one_suggested(project: Path) -> None:
    (problem,) = problems(project, f"max_steps = 3\n{HELLO}")
    assert problem == (
        "perstack.toml:1: unknown key 'max_steps' at the top of the file; did you mean 'maxSteps'?"
    )


def test_top_level_key_that_fell_into_a_table_is_sent_back_to_the_top(project: Path) -> None:
    (problem,) = problems(project, expert("maxSteps = 3"))
    assert problem == (
        "perstack.toml:3: unknown key 'maxSteps' in experts.hello; "
        "it belongs to the top of the file, before the first [table]"
    )


def test_lenient_turns_unknown_keys_into_notices_and_nothing_else(project: Path) -> None:
    loaded = load(project, expert('colour = "red"'), lenient=True)
    assert loaded.notices == ("perstack.toml:3: unknown key 'colour' in experts.hello (ignored)",)
    with pytest.raises(DefinitionError, match="must be a text"):
        load(project, "[experts.hello]\ninstruction = 1", lenient=True)


def test_all_violations_are_reported_at_once_and_in_order(project: Path) -> None:
    found = problems(
        project,
        """
maxSteps = 0
[provider]
providerName = "antropic"
[limits]
tokenMax = 3
[experts.a]
instruction = ""
delegates = ["b", "a"]
[experts.a.skills.x]
type = "mcpStdio"
[experts."B!"]
instruction = "x"
""",
    )
    lines = [int(problem.split(":")[1]) for problem in found]
    assert lines == [2, 4, 6, 8, 9, 9, 11, 12]
    assert "unknown provider 'antropic'; did you mean 'anthropic'?" in found[1]
    assert "did you mean 'tokensMax'?" in found[2]
    assert "did you mean 'mcpStdioSkill'?" in found[6]


def test_a_flood_of_problems_is_cut(project: Path) -> None:
    text = "".join(f"unknown{number} = 1\n" for number in range(SHOWN_MAX + 20))
    found = problems(project, text + HELLO)
    assert len(found) == SHOWN_MAX + 1
    assert found[-1] == "perstack.toml: and 20 more"


def test_file_without_experts_is_an_error(project: Path) -> None:
    (problem,) = problems(project, 'model = "x"\n')
    assert problem == "perstack.toml: no expert is defined: add a table [experts.NAME]"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('runtime = "docker"', "runtime"),
        ('perstackApiBaseUrl = "https://example.com"', "perstackApiBaseUrl"),
        ('perstackBaseSkillCommand = ["a"]', "perstackBaseSkillCommand"),
    ],
)
def test_key_that_does_nothing_here_is_accepted_with_a_notice(
    project: Path, line: str, key: str
) -> None:
    (notice,) = load(project, f"{line}\n{HELLO}").notices
    assert notice.startswith(f"perstack.toml:1: '{key}' has no effect: ")


def test_env_path_written_after_the_provider_table_is_a_notice_as_it_never_had_an_effect(
    project: Path,
) -> None:
    text = f'[provider]\nproviderName = "anthropic"\nenvPath = [".env"]\n{HELLO}'
    (notice,) = load(project, text).notices
    assert notice.startswith("perstack.toml:3: 'envPath' has no effect: it belongs to the top")


def test_env_paths_start_at_the_file_and_have_a_default(project: Path) -> None:
    assert load(project, HELLO).env_paths == (project / ".env", project / ".env.local")
    assert load(project, f'envPath = ["keys"]\n{HELLO}').env_paths == (project / "keys",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("experts = 1\n", "perstack.toml:1: experts must be a table"),
        ("[experts]\nhello = 1\n", "perstack.toml:2: experts.hello must be a table"),
        (f"provider = 1\n{HELLO}", "perstack.toml:1: provider must be a table"),
        (f"limits = [1]\n{HELLO}", "perstack.toml:1: limits must be a table"),
        (f"[limits]\nstepsMax = 1.5\n{HELLO}", "perstack.toml:2: limits.stepsMax must be a whole"),
        (
            f'[provider]\nproviderName = "openai"\nsetting = "x"\n{HELLO}',
            "perstack.toml:3: provider.setting must be a table",
        ),
        (
            f'[provider]\nproviderName = "openai"\nsetting = {{ baseUrl = 1 }}\n{HELLO}',
            "perstack.toml:3: provider.setting.baseUrl must be a text",
        ),
        (f"[provider]\n{HELLO}", "perstack.toml:1: 'providerName' is missing in provider"),
        (f'envPath = [".env", 2]\n{HELLO}', "perstack.toml:1: envPath[1] must be a text"),
    ],
)
def test_value_of_another_kind_is_an_error_on_its_line(
    project: Path, text: str, found: str
) -> None:
    (problem,) = problems(project, text)
    assert problem.startswith(found)


def test_file_above_the_limit_is_not_read(project: Path) -> None:
    (problem,) = problems(project, "#" * (FILE_BYTES_MAX + 1))
    assert problem == f"perstack.toml: larger than {FILE_BYTES_MAX} bytes"


# values


def test_expert_keeps_what_the_file_says(project: Path) -> None:
    keys = 'version = "2.1.0-rc.1"\ndescription = "Says hello."\ntags = ["a", "b-2"]'
    found = load(project, expert(keys)).definition.experts["hello"]
    assert (found.key, found.version, found.description) == ("hello", "2.1.0-rc.1", "Says hello.")
    assert found.instruction == "Work."
    assert found.tags == ("a", "b-2")


def test_lengths_are_counted_in_characters(project: Path) -> None:
    long = "字" * 20_480
    loaded = load(project, f'[experts.hello]\ninstruction = "{long}"\n')
    assert loaded.definition.experts["hello"].instruction == long
    (problem,) = problems(project, f'[experts.hello]\ninstruction = "{long}字"\n')
    assert "at most 20480 characters" in problem


@pytest.mark.parametrize(
    "key", ["a", "a.b-c_d", "@scope/name", "name@1.0.0", "@scope/name@latest", "n@1.0.0-rc.1+b"]
)
def test_keys_of_experts_may_have_scope_and_version(project: Path, key: str) -> None:
    assert list(load(project, expert(name=key)).definition.experts) == [key]


@pytest.mark.parametrize("key", ["A", "a b", "@scope", "a/b", "a@", "@/a", "-a", "", "a" * 512])
def test_other_keys_of_experts_are_errors(project: Path, key: str) -> None:
    (problem,) = problems(project, expert(name=key))
    assert "is not the key of an expert" in problem


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('version = "1.0"', "is not a version"),
        ('tags = ["Big"]', "must be lower-case"),
        (f"tags = {['t'] * 9}", "at most 8 items"),
        (f"delegates = {['t'] * 256}", "at most 255 items"),
        (f'description = "{"x" * 2049}"', "at most 2048 characters"),
        ('defaultModelTier = "mid"', "'low', 'middle' or 'high'"),
        ('reasoningBudget = "lots"', "must be one of none, minimal, low, medium, high"),
        ("reasoningBudget = -1", "must be one of none"),
        ("reasoningBudget = true", "must be one of none"),
        ('tags = "a"', "experts.hello.tags must be a list"),
        ('skills = "a"', "experts.hello.skills must be a table"),
    ],
)
def test_value_out_of_bounds_is_an_error_on_its_line(project: Path, keys: str, says: str) -> None:
    found = problems(project, expert(keys))
    assert found[0].startswith("perstack.toml:3: ")
    assert any(says in one for one in found)


# limits


def test_limits_are_the_defaults_until_the_file_says_otherwise(project: Path) -> None:
    assert load(project, HELLO).definition.limits == Limits()
    text = f"[limits]\nstepsMax = 7\ntokensMax = 1000\ndepthMax = 0\n{HELLO}"
    expected = Limits(steps_max=7, tokens_max=1000, depth_max=0)
    assert load(project, text).definition.limits == expected


def test_former_keys_set_the_limits_they_meant(project: Path) -> None:
    limits = load(project, f"maxSteps = 9\nmaxRetries = 0\ntimeout = 5\n{HELLO}").definition.limits
    assert limits == Limits(steps_max=9, generation_attempts_max=1, generation_timeout_ms=5)


def test_a_limit_set_twice_is_an_error(project: Path) -> None:
    (problem,) = problems(project, f"maxSteps = 9\n[limits]\nstepsMax = 9\n{HELLO}")
    assert problem == (
        "perstack.toml:3: 'stepsMax' and 'maxSteps' set the same limit: keep one of them"
    )


def test_limits_of_the_caller_are_above_the_file(project: Path) -> None:
    path = project / "perstack.toml"
    path.write_text(f"maxSteps = 9\n[limits]\ntokensMax = 5\n{HELLO}")
    loaded = load_definition(path, steps_max=3, tokens_max=None, retry_base_ms=10)
    assert loaded.definition.limits == Limits(steps_max=3, tokens_max=5, retry_base_ms=10)


def test_a_limit_of_the_caller_out_of_range_is_refused_by_name(project: Path) -> None:
    path = project / "perstack.toml"
    path.write_text(HELLO)
    with pytest.raises(Rejected, match="steps_max") as caught:
        load_definition(path, steps_max=0)
    assert caught.value.code == "bad_limit"


def test_longest_wait_below_the_first_is_an_error(project: Path) -> None:
    (problem,) = problems(project, f"[limits]\nretryMaxMs = 10\n{HELLO}")
    assert problem == "perstack.toml:2: retryMaxMs must not be below retryBaseMs"
