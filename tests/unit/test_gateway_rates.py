"""Token buckets of callers and addresses. Not over HTTP."""

import pytest

from gateway.auth.rates import BUCKETS_MAX, Rate, Rates, address_of
from tests.support.credentials import Clock


def test_a_caller_has_a_burst_and_then_its_rate() -> None:
    clock = Clock(0)
    rate = Rate(60, 5, clock.s)
    assert [rate.take("a") for _ in range(6)] == [True] * 5 + [False]
    assert rate.wait_s("a") == 1
    clock.pass_by(0.9)
    assert not rate.take("a")
    clock.pass_by(0.2)
    assert rate.take("a")
    assert not rate.take("a")
    clock.pass_by(3_600)
    assert [rate.take("a") for _ in range(6)] == [True] * 5 + [False]


def test_callers_do_not_use_up_each_others_rate() -> None:
    rate = Rate(60, 1, Clock(0).s)
    assert rate.take("a")
    assert rate.take("b")
    assert not rate.take("a")


def test_what_is_told_is_what_counts() -> None:
    clock = Clock(0)
    rate = Rate(120, 20, clock.s)
    for _ in range(5):
        rate.take("a")
    assert rate.headers("a") == {
        "RateLimit-Policy": '"caller";q=120;w=60',
        "RateLimit": '"caller";r=15;t=3',
    }
    for _ in range(15):
        assert rate.take("a")
    clock.pass_by(rate.wait_s("a"))
    assert rate.take("a")


def test_a_bounded_number_of_callers_is_remembered() -> None:
    rate = Rate(60, 1, Clock(0).s)
    for number in range(BUCKETS_MAX + 5):
        rate.take(str(number))
    assert rate.left("0") == 1  # forgotten: as if it had been quiet
    assert rate.left(str(BUCKETS_MAX + 4)) == 0


def test_what_fails_is_limited_harder_than_what_works() -> None:
    rates = Rates(6_000, Clock(0).s)
    assert rates.callers.burst == 1_000
    assert rates.failures.burst == 10
    assert Rates(1, Clock(0).s).callers.burst == 10


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (None, ""),
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("::ffff:10.0.0.1", 5), "10.0.0.1"),
        (("testclient", 5), "testclient"),
    ],
)
def test_addresses_of_one_machine_count_as_one(
    client: tuple[str, int] | None, expected: str
) -> None:
    assert address_of(client) == expected
