"""Counting and limiting: every connection in some row, every byte paid for, little memory."""

import asyncio

import pytest

from domain.sandbox import EgressRow
from services.sandbox.egress.budget import Budget
from services.sandbox.egress.guest import TOLD_HOSTS_MAX, Guest
from services.sandbox.egress.names import Where
from services.sandbox.egress.policy import EgressPolicy, EgressSettings
from services.sandbox.egress.refusals import Reason, Refused
from services.sandbox.egress.tally import OTHER, Counter, Key, SecretUse, Tally

pytestmark = pytest.mark.anyio


def test_what_is_alike_is_counted_together() -> None:
    counter = Counter()
    key = Key("a.test", 443, "allowed")
    counter.add(key, connections=1, bytes_out=10)
    counter.add(key, connections=1, bytes_in=20)
    counter.add(Key("a.test", 80, "denied", "port"), connections=1)
    tally, more = counter.take(100)
    assert not more
    assert tally.rows == (
        EgressRow(
            host="a.test", port=443, verdict="allowed", connections=2, bytes_out=10, bytes_in=20
        ),
        EgressRow(host="a.test", port=80, verdict="denied", reason="port"),
    )
    assert counter.take(100) == (Tally(), False)


def test_a_connection_that_goes_on_is_counted_once() -> None:
    counter = Counter()
    key = Key("a.test", 443, "allowed")
    counter.add(key, connections=1, bytes_in=1)
    counter.take(100)
    counter.add(key, bytes_in=5)
    (row,) = counter.take(100)[0].rows
    assert (row.connections, row.bytes_in) == (0, 5)


def test_denials_do_not_crowd_out_what_was_allowed() -> None:
    counter = Counter(keys_max=3)
    for number in range(10):
        counter.add(Key(f"h{number}.test", 443, "denied", "not_allowed"), connections=1)
    counter.add(Key("a.test", 443, "allowed"), connections=1)
    rows = counter.take(100)[0].rows
    assert [(row.host, row.connections) for row in rows] == [
        ("a.test", 1), ("h0.test", 1), ("h1.test", 1), ("h2.test", 1), (OTHER, 7),
    ]  # fmt: skip


def test_many_rows_come_in_parts() -> None:
    counter = Counter()
    for number in range(7):
        counter.add(Key(f"h{number}.test", 443, "denied", "port"), connections=1)
        counter.use("KEY", f"h{number}.test", "GET", 200)
    counter.use("KEY", "h0.test", "GET", 200)
    whole, parts, more = Tally(), 0, True
    while more:
        tally, more = counter.take(3)
        whole, parts = whole.joined(tally), parts + 1
    assert parts == 3
    assert len(whole.rows) == len(whole.uses) == 7
    assert whole.uses[0] == SecretUse(
        secret="KEY", host="h0.test", method="GET", status=200, times=2
    )


async def test_a_budget_is_spent_to_the_byte() -> None:
    budget = Budget(100, 1000, spent=10, clock=lambda: 0.0)
    await budget.spend(90)
    assert (budget.left, budget.spent) == (0, 100)
    with pytest.raises(Refused) as refused:
        await budget.spend(1)
    assert refused.value.reason == Reason.BYTE_LIMIT


async def test_what_does_not_fit_is_not_passed_on_and_ends_it() -> None:
    budget = Budget(100, 1000, spent=0, clock=lambda: 0.0)
    with pytest.raises(Refused):
        await budget.spend(101)
    with pytest.raises(Refused):
        await budget.spend(1)


async def test_a_rate_makes_wait_after_one_second_of_it() -> None:
    loop = asyncio.get_running_loop()
    budget = Budget(10_000, 1000, spent=0, clock=loop.time)
    began = loop.time()
    await budget.spend(1000)
    assert loop.time() - began < 0.05
    await budget.spend(100)
    assert loop.time() - began >= 0.09


def guest(bytes_max: int = 1000) -> tuple[Guest, list[EgressRow], list[int]]:
    denied: list[EgressRow] = []
    spent: list[int] = []
    made = EgressPolicy(domains=("a.test",), bytes_max=bytes_max)
    return (
        Guest(
            made,
            EgressSettings(),
            stand_ins=(),
            budget=Budget(made.bytes_max, 10**12, spent=0, clock=lambda: 0.0),
            on_denied=denied.append,
            on_spent=spent.append,
        ),
        denied,
        spent,
    )


async def test_only_the_first_denial_of_a_host_is_told_and_not_of_endless_hosts() -> None:
    made, denied, _ = guest()
    for number in [0, 0, *range(1, 2 * TOLD_HOSTS_MAX)]:
        made.refuse(Refused(Reason.NOT_ALLOWED, f"h{number}.test", 443))
    made.refuse(Refused(Reason.UNREACHABLE, "a.test", 443))
    assert len(denied) == TOLD_HOSTS_MAX
    assert denied[0] == EgressRow(host="h0.test", port=443, verdict="denied", reason="not_allowed")


async def test_what_was_spent_is_told_in_steps_and_at_the_end() -> None:
    made, _, spent = guest(bytes_max=3_000_000)
    key = made.opened(Where("a.test", 443))
    for _ in range(29):
        await made.pay(key, 50_000, 50_000)
    with pytest.raises(Refused) as refused:
        await made.pay(key, 0, 1_000_000)
    assert (refused.value.host, refused.value.port) == ("a.test", 443)
    assert spent == [1_100_000, 2_200_000, 3_000_000]
    with pytest.raises(Refused):
        made.check(Where("a.test", 443))


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("b.test", 443, Reason.NOT_ALLOWED),
        ("b.test", 22, Reason.NOT_ALLOWED),
        ("a.test", 22, Reason.PORT),
    ],
)
async def test_the_name_is_checked_first(host: str, port: int, reason: Reason) -> None:
    made, _, _ = guest()
    with pytest.raises(Refused) as refused:
        made.check(Where(host, port))
    assert refused.value.reason == reason
