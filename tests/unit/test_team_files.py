"""Definition files that models write, as a worker reads them. Not the team they are added to."""

import pytest

from domain.errors import Rejected
from peritus.rules import parse_definition


def test_a_file_is_read_without_any_model_price_or_key_of_its_own() -> None:
    found = parse_definition(
        'model = "some-model"\n[limits]\nbudget = "1.50"\n[experts.made]\ninstruction = "Work."\n'
    )

    assert list(found.experts) == ["made"]


def test_every_violation_comes_back_with_its_line_and_without_a_path_of_the_worker() -> None:
    text = '[experts.made]\ninstrction = "Work."\ndelegates = ["nobody"]\n'

    with pytest.raises(Rejected) as refused:
        parse_definition(text)

    lines = refused.value.message.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "perstack.toml:1",
        "perstack.toml:2",
        "perstack.toml:3",
    ]
    assert "did you mean 'instruction'?" in lines[1]


def test_a_file_has_nothing_beside_it_to_include() -> None:
    with pytest.raises(Rejected, match=r"'other\.toml' is not there"):
        parse_definition('include = ["other.toml"]\n[experts.made]\ninstruction = "Work."\n')
