"""Limits of a file and of a caller, by the names and units of both. Not how they are enforced."""

from pathlib import Path

import pytest

from domain.errors import Rejected
from domain.limits import Limits
from peritus.definitions.limits import LimitOverrides
from peritus.definitions.schema import LimitsTable
from tests.support.definitions import HELLO, load, problem, write

FREE = '[prices."anthropic/*"]\ninput = 0\noutput = 0\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def limits(project: Path, keys: str) -> Limits:
    return load(project, f"[limits]\n{keys}\n{HELLO}").definition.limits


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ('budget = "2.50"', Limits(money_max=2_500_000)),
        ("budget = 0.1", Limits(money_max=100_000)),
        ("budget = 0", Limits(money_max=0)),
        ("budgetSoft = 1", Limits(money_soft=1_000_000)),
        ("tokensSoft = 10", Limits(tokens_soft=10)),
        ("toolCallsMax = 0", Limits(tool_calls_max=0)),
        ('wallTime = "1h 30m"', Limits(wall_ms_max=5_400_000)),
        ("fanOutMax = 2", Limits(fan_out_max=2)),
        ("rateLimitedAttemptsMax = 3", Limits(rate_limited_attempts_max=3)),
        ('answerTime = "2d"', Limits(answer_ms_max=172_800_000)),
        ('answerTime = "none"', Limits(answer_ms_max=None)),
    ],
)
def test_limit_is_set_by_its_key(project: Path, key: str, expected: Limits) -> None:
    assert limits(project, key) == expected


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ('budget = "-1"', "limits.budget: '-1' must be US dollars"),
        ('budget = "0.0000001"', "limits.budget: '0.0000001' is finer than a millionth"),
        ("budget = true", "limits.budget: true must be US dollars"),
        ("wallTime = 60", "limits.wallTime: 60 must be a text with units"),
        ('wallTime = "0s"', "limits.wallTime: should be greater than or equal to 1"),
        ('wallTime = "none"', "limits.wallTime: 'none' must be a text with units"),
        ("fanOutMax = 0", "limits.fanOutMax: should be greater than or equal to 1"),
        ("moneyMax = 1", "unknown key 'moneyMax' in limits"),
        ("stepsMax = 99999999999999999999", "limits.stepsMax: should be less than"),
    ],
)
def test_wrong_limit_is_an_error_on_its_line(project: Path, key: str, says: str) -> None:
    found = problem(project, f"[limits]\n{key}\n{HELLO}")
    assert found.startswith(f"perstack.toml:2: {says}")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("tokensSoft = 2\ntokensMax = 1", "tokensSoft must not be above tokensMax"),
        ("budgetSoft = 2\nbudget = 1", "budgetSoft must not be above budget"),
    ],
)
def test_asking_later_than_ending_is_an_error(project: Path, keys: str, says: str) -> None:
    assert problem(project, f"[limits]\n{keys}\n{HELLO}") == f"perstack.toml:2: {says}"


def test_soft_limit_may_be_as_high_as_the_hard_one(project: Path) -> None:
    expected = Limits(tokens_soft=5, tokens_max=5)
    assert limits(project, "tokensSoft = 5\ntokensMax = 5") == expected


def test_limits_of_the_caller_are_plain_numbers_above_the_file(project: Path) -> None:
    text = f'[limits]\nbudget = "9"\nwallTime = "1d"\n{HELLO}'
    loaded = load(project, text, money_max=2_500_000, wall_ms_max=1_000, fan_out_max=None)
    assert loaded.definition.limits == Limits(money_max=2_500_000, wall_ms_max=1_000)


def test_budget_of_the_caller_needs_prices_as_one_of_the_file_does(project: Path) -> None:
    text = f'model = "unheard-of"\n{HELLO}'
    assert load(project, text).definition.limits.money_max is None
    assert "nobody knows what anthropic unheard-of costs" in problem(project, text, money_max=1)
    assert load(project, f"{FREE}{HELLO}", money_max=1).definition.limits.money_max == 1


@pytest.mark.parametrize("given", [{"money_max": -1}, {"wall_ms_max": 0}, {"fan_out_max": 0}])
def test_limit_of_the_caller_out_of_range_is_refused(project: Path, given: dict[str, int]) -> None:
    write(project, {"perstack.toml": HELLO})
    with pytest.raises(Rejected) as caught:
        load(project, HELLO, **given)
    assert caught.value.code == "bad_limit"
    assert next(iter(given)) in caught.value.message


def test_every_limit_can_be_set_by_file_and_by_caller() -> None:
    assert set(LimitsTable.model_fields) == set(Limits.model_fields)
    assert set(LimitOverrides.__annotations__) == set(Limits.model_fields)
