"""Money and durations as people write them. Not the limits they are for."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Rejected
from peritus.definitions import parse_duration, parse_usd
from peritus.definitions.amounts import MICRO, USD_MAX, duration_ms, micro_usd, usd


@pytest.mark.parametrize(
    ("written", "micro"),
    [
        ("2.50", 2_500_000),
        ("0.1", 100_000),
        (0.1, 100_000),
        (2.675, 2_675_000),
        (3, 3_000_000),
        ("0", 0),
        ("0.000001", 1),
        (1e-6, 1),
        ("1000000000", 10**15),
    ],
)
def test_dollars_are_micro_dollars_without_an_error_of_binary_fractions(
    written: object, micro: int
) -> None:
    assert micro_usd(written) == micro


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("-1", "without a sign"),
        (-1, "without a sign"),
        ("$2", "must be US dollars"),
        ("2,50", "must be US dollars"),
        ("", "must be US dollars"),
        ("1e3", "must be US dollars"),
        ("٢", "must be US dollars"),
        (True, "must be US dollars"),
        (None, "must be US dollars"),
        (float("nan"), "must be US dollars"),
        (float("inf"), "must be US dollars"),
        ("0.0000001", "finer than a millionth"),
        (0.1 + 0.2, "finer than a millionth"),
        (USD_MAX + 1, "more than"),
        (10**4_000, "more than"),
    ],
)
def test_other_amounts_are_refused(written: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        micro_usd(written)


@given(st.integers(min_value=0, max_value=USD_MAX * MICRO))
def test_an_amount_reads_back_as_it_is_shown(micro: int) -> None:
    assert micro_usd(usd(micro)) == micro


@given(st.decimals(min_value=0, max_value=10_000, places=6))
def test_a_number_counts_as_the_decimal_it_is_written_as(amount: Decimal) -> None:
    assert micro_usd(float(amount)) == amount * MICRO


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("250ms", 250),
        ("90s", 90_000),
        ("15m", 900_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1h 30m", 5_400_000),
        ("1h30m", 5_400_000),
        ("10 s", 10_000),
    ],
)
def test_durations_have_units(written: str, ms: int) -> None:
    assert duration_ms(written) == ms


@pytest.mark.parametrize("written", ["", "90", 90, "s", "1.5h", "-1s", "1w", "1h ", "1h,2m", None])
def test_a_duration_without_units_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="must be a text with units"):
        duration_ms(written)


def test_a_duration_has_an_end() -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        duration_ms("3661d")


def test_flags_that_are_not_given_stay_so_and_wrong_ones_are_bad_limits() -> None:
    assert (parse_usd(None), parse_duration(None)) == (None, None)
    assert (parse_usd("2.5"), parse_duration("1m")) == (2_500_000, 60_000)
    with pytest.raises(Rejected) as caught:
        parse_usd("two")
    assert caught.value.code == "bad_limit"
    with pytest.raises(Rejected) as caught:
        parse_duration("two")
    assert caught.value.code == "bad_limit"
