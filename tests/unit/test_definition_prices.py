"""What a model costs, and who has the last word on it. Not what a run has spent."""

import re
from pathlib import Path

import pytest

from domain.limits import Price
from peritus.definitions import DefinitionError, Operator
from peritus.definitions.prices import shipped_prices
from peritus.definitions.providers import PROVIDERS
from tests.support.definitions import HELLO, expert, hello, load, problem, problems, write

BUDGET = "[limits]\nbudget = 1\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.toml").write_text("")
    return tmp_path


def price(keys: str, name: str = "anthropic/m") -> str:
    return f'[prices."{name}"]\n{keys}\n'


def test_shipped_price_is_that_of_the_list_with_source_and_day(project: Path) -> None:
    found = hello(project, expert('model = "claude-sonnet-4-6"')).model.price
    assert found == Price(
        input=3_000_000,
        output=15_000_000,
        cached=300_000,
        cache_written=3_750_000,
        source="https://platform.claude.com/docs/en/about-claude/pricing",
        as_of="2026-10-24",
    )


def test_every_shipped_price_says_of_whom_whence_and_when() -> None:
    for key, found in shipped_prices().items():
        provider, _, model = key.partition("/")
        assert provider in PROVIDERS, key
        assert found.source, key
        if model != "*":
            assert found.source.startswith("https://"), key
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", found.as_of), key
            assert 0 < found.input <= found.output, key
            assert found.cached is None or found.cached < found.input, key
            assert found.cache_written is None or found.cache_written > found.input, key


def test_definition_goes_above_the_list_and_an_operator_above_both(project: Path) -> None:
    own = price('input = "1.5"\noutput = 2', "anthropic/claude-sonnet-4-6")
    text = own + expert('model = "claude-sonnet-4-6"')
    found = hello(project, text).model.price
    assert found == Price(input=1_500_000, output=2_000_000, source="the definition")
    write(project, {"prices.toml": own.replace("2\n", '2\ncached = "0.3"\ncacheWrite = 3\n')})
    operator = Operator(prices_file=project / "prices.toml")
    assert hello(project, text, operator=operator).model.price == Price(
        input=1_500_000,
        output=2_000_000,
        cached=300_000,
        cache_written=3_000_000,
        source="prices.toml",
    )


def test_source_and_day_may_be_written(project: Path) -> None:
    keys = 'input = 1\noutput = 1\nsource = "our contract"\nasOf = "2026-01-31"'
    found = hello(project, price(keys) + expert('model = "m"')).model.price
    assert found == Price(
        input=1_000_000, output=1_000_000, source="our contract", as_of="2026-01-31"
    )


def test_model_that_is_named_beats_every_model_of_a_provider(project: Path) -> None:
    text = price("input = 1\noutput = 1") + price("input = 2\noutput = 2", "anthropic/*")
    assert hello(project, text + expert('model = "m"')).model.price is not None
    other = hello(project, text + expert('model = "n"')).model.price
    assert other is not None
    assert other.input == 2_000_000


def test_name_of_a_provider_in_the_file_beats_that_of_the_provider(project: Path) -> None:
    head = '[providers.far]\nproviderName = "openai-chat"\nsetting.baseUrl = "https://a.b/v1"\n'
    usual = price("input = 2\noutput = 2", "openai-chat/m")
    far = price("input = 1\noutput = 1", "far/m")
    keys = expert('provider = "far"\nmodel = "m"')
    first = hello(project, head + usual + far + keys).model.price
    second = hello(project, head + usual + keys).model.price
    assert (first and first.input, second and second.input) == (1_000_000, 2_000_000)


def test_list_price_is_not_that_of_another_address(project: Path) -> None:
    head = '[provider]\nproviderName = "openai"\nsetting = { baseUrl = "https://a.b" }\n'
    assert hello(project, head + expert('model = "gpt-5"')).model.price is None
    at_home = '[provider]\nproviderName = "openai-chat"\n'
    assert hello(project, at_home + expert('model = "gpt-5"')).model.price is not None


def test_unknown_price_is_fine_without_a_budget(project: Path) -> None:
    assert hello(project, expert('model = "m"')).model.price is None


@pytest.mark.parametrize("limit", ["budget = 1", "budgetSoft = 1"])
def test_unknown_price_under_a_budget_is_an_error_that_names_the_key(
    project: Path, limit: str
) -> None:
    text = f"[limits]\n{limit}\n" + expert('model = "m"')
    assert problem(project, text) == (
        "perstack.toml:5: a budget is set, and nobody knows what anthropic m costs: "
        "add [prices.\"anthropic/m\"] with 'input' and 'output' in US dollars per million tokens"
    )
    added = text + price("input = 1\noutput = 1")
    assert load(project, added).notices == ()


def test_budget_asks_for_the_prices_of_fallbacks_too(project: Path) -> None:
    text = BUDGET + expert('fallbacks = ["openai/gpt-5",\n"openai/m"]')
    found = problem(project, text)
    assert found.startswith("perstack.toml:6: a budget is set")
    assert 'add [prices."openai/m"]' in found


def test_what_runs_at_home_or_from_a_script_costs_nothing(project: Path) -> None:
    text = BUDGET + expert('provider = "ollama"') + expert(name="b")
    loaded = load(
        project, text + HELLO.replace("hello", "c"), provider="scripted", model="script.toml"
    )
    costs = [one.model.price for one in loaded.definition.experts.values()]
    assert all(cost is not None and cost.worst(10**6, 10**6) == 0 for cost in costs)
    ollama = hello(project, text).model.price
    assert ollama is not None
    assert ollama.worst(10**6, 10**6) == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (price("output = 1"), "2: 'input' is missing in prices.\"anthropic/m\""),
        (price("input = 1\noutput = -1"), '4: prices."anthropic/m".output: -1 must be US dollars'),
        (price("input = 1\noutput = 1\ncache = 1"), "5: unknown key 'cache'"),
        (
            price('input = 1\noutput = 1\nasOf = "May"'),
            "5: prices.\"anthropic/m\".asOf: 'May' is not a day",
        ),
        (
            price("input = 1\noutput = 1", "antropic/m"),
            "2: unknown provider 'antropic'; did you mean",
        ),
        (price("input = 1\noutput = 1", "m"), "2: prices.m: 'm' is not 'provider/model'"),
        (price("input = 1\noutput = 1", "openai/"), "is not 'provider/model'"),
    ],
)
def test_wrong_price_is_an_error_on_its_line(project: Path, table: str, says: str) -> None:
    found = problems(project, f"\n{table}{HELLO}")
    assert f"perstack.toml:{says}" in found[0] or says in found[0]


def test_wrong_list_of_an_operator_is_an_error_with_its_own_lines(project: Path) -> None:
    write(project, {"prices.toml": f'model = "m"\n{price("input = 1")}'})
    with pytest.raises(DefinitionError) as caught:
        load(project, HELLO, operator=Operator(prices_file=project / "prices.toml"))
    assert caught.value.message.splitlines() == [
        "prices.toml:1: unknown key 'model': a list of prices holds tables [prices.…]",
        "prices.toml:2: 'output' is missing in prices.\"anthropic/m\"",
    ]
    with pytest.raises(DefinitionError, match=r"none\.toml: cannot be read"):
        load(project, HELLO, operator=Operator(prices_file=project / "none.toml"))
    write(project, {"prices.toml": "prices = 1\n"})
    with pytest.raises(DefinitionError, match="prices must be a table"):
        load(project, HELLO, operator=Operator(prices_file=project / "prices.toml"))
