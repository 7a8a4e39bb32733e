"""What is shared of a provider's limits, step by step (C13). Not the waiting."""

from itertools import pairwise
from random import Random

import pytest
from pydantic import ValidationError

from domain.bucket import MINUTE_MS, Bucket
from domain.limits import ModelChoice
from domain.rate import (
    BACKOFF_BASE_MS,
    BACKOFF_MAX_MS,
    CALM_MS,
    HOLD_MAX_MS,
    NO_QUOTA,
    SETTLE_MS,
    SPREAD_MAX_MS,
    SPREAD_MIN_MS,
    Call,
    Quota,
    Rate,
    Refusal,
    Scope,
    Wait,
    admit,
    counted,
    held,
    in_force,
    quota_of,
    recalled,
    refused,
    replied,
    scope_of,
    settled,
    unasked,
    without,
    worth_keeping,
)
from domain.record import canonical

NOW_MS = 1_700_000_000_000
OLD_MS = NOW_MS - 10 * CALM_MS
CLAUDE = ModelChoice(provider="anthropic", model="claude-opus-4.1/latest")


def call(epoch: str = "a", mine: int = 0, tokens: int = 0, spread: float = 0.0) -> Call:
    return Call(epoch, mine, tokens, spread)


def turned_away(
    rate: Rate, pause_ms: int | None = 10_000, *, now_ms: int = NOW_MS, spread: float = 0.0
) -> Rate:
    """After the refusal of a call that began just before."""
    return refused(rate, Refusal(now_ms - 1, pause_ms, spread), now_ms)


def at_work(**calls: int) -> Rate:
    return Rate(born_ms=OLD_MS, in_flight=calls)


def begun(answer: Rate | Wait) -> Rate:
    assert isinstance(answer, Rate), answer
    return answer


def waits(answer: Rate | Wait) -> Wait:
    assert isinstance(answer, Wait), answer
    return answer


# ---------------------------------------------------------------------- whose limits


def test_a_scope_is_three_subject_tokens_that_hold_no_name_of_a_key() -> None:
    scope = scope_of(CLAUDE, "ANTHROPIC_API_KEY")
    assert scope.provider == "anthropic"
    assert all(token.replace("-", "").isalnum() for token in scope)
    assert "ANTHROPIC" not in "".join(scope)
    assert scope == scope_of(
        CLAUDE.model_copy(update={"output_tokens_max": 7}), "ANTHROPIC_API_KEY"
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({}, "ANOTHER_KEY"),
        ({"model": "claude-haiku"}, "KEY"),
        ({"base_url": "https://proxy.example"}, "KEY"),
        ({"settings": {"region": "eu"}}, "KEY"),
        ({"provider": "bedrock"}, "KEY"),
    ],
    ids=["account", "model", "address", "region", "provider"],
)
def test_whatever_has_limits_of_its_own_is_another_scope(change: dict[str, str], key: str) -> None:
    assert scope_of(CLAUDE.model_copy(update=change), key) != scope_of(CLAUDE, "KEY")


def test_a_provider_whose_name_is_no_token_has_a_scope_too() -> None:
    scope = scope_of(ModelChoice(provider="my server", model="m"), "")
    assert isinstance(scope, Scope)
    assert scope.provider.isalnum()


def test_a_model_takes_from_its_provider_what_its_own_entry_leaves_open() -> None:
    quotas = {
        "anthropic": Quota(concurrency=8, requests_per_min=60),
        f"anthropic/{CLAUDE.model}": Quota(requests_per_min=5),
        "openai/gpt": Quota(concurrency=1),
    }
    assert quota_of(quotas, CLAUDE) == Quota(concurrency=8, requests_per_min=5)
    other = CLAUDE.model_copy(update={"model": "other"})
    assert quota_of(quotas, other) == quotas["anthropic"]
    assert quota_of(quotas, ModelChoice(provider="openai", model="gpt")) == Quota(concurrency=1)
    assert quota_of(quotas, ModelChoice(provider="openai", model="gpt-2")) is None


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"requests_per_min": -1}, {"tokens_per_min": 0}, {"rpm": 5}]
)
def test_a_quota_of_nothing_or_with_an_unknown_key_is_an_error(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Quota.model_validate(wrong)


# ---------------------------------------------------------------------- holds


def test_without_a_quota_and_a_refusal_nothing_is_in_force() -> None:
    assert not in_force(Rate(), NO_QUOTA, NOW_MS)
    assert in_force(Rate(), Quota(concurrency=1), NOW_MS)
    assert in_force(turned_away(at_work(a=1)), NO_QUOTA, NOW_MS)
    assert in_force(held(Rate(), NOW_MS + 1, NOW_MS), NO_QUOTA, NOW_MS)
    assert not in_force(held(Rate(), NOW_MS + 1, NOW_MS), NO_QUOTA, NOW_MS + 1)


def test_a_pause_that_was_asked_for_holds_calls_of_every_epoch() -> None:
    rate = turned_away(at_work(a=1), 10_000)
    for epoch in ("a", "b", "c"):
        wait = waits(admit(rate, NO_QUOTA, call(epoch), NOW_MS + 9_999))
        assert wait.until_ms is not None
        assert wait.until_ms >= NOW_MS + 10_000


def test_calls_begin_again_one_after_another_and_never_before_the_end_of_the_hold() -> None:
    rate = turned_away(at_work(a=1), 16_000)
    times = [
        waits(admit(rate, NO_QUOTA, call(spread=i / 20), NOW_MS)).until_ms or 0 for i in range(20)
    ]
    assert times[0] == NOW_MS + 16_000
    assert all(NOW_MS + 16_000 <= time < NOW_MS + 18_000 for time in times)
    assert len(set(times)) == 20


@pytest.mark.parametrize(
    ("pause_ms", "spread_ms"), [(10, SPREAD_MIN_MS), (10_000_000, SPREAD_MAX_MS)]
)
def test_the_spread_of_a_hold_has_bounds(pause_ms: int, spread_ms: int) -> None:
    wait = waits(admit(turned_away(at_work(a=1), pause_ms), NO_QUOTA, call(spread=0.999), NOW_MS))
    end_ms = NOW_MS + pause_ms
    assert wait.until_ms is not None
    assert end_ms + spread_ms * 0.99 < wait.until_ms < end_ms + spread_ms


def test_a_shorter_pause_never_shortens_a_hold() -> None:
    rate = turned_away(at_work(a=1), 10_000)
    later = turned_away(rate, 50, now_ms=NOW_MS + 10)
    assert later.held_until_ms == NOW_MS + 10_000
    assert held(later, NOW_MS + 20, NOW_MS).held_until_ms == NOW_MS + 10_000


def test_no_hold_is_longer_than_a_day() -> None:
    assert turned_away(at_work(a=1), 10**12).held_until_ms == NOW_MS + HOLD_MAX_MS


def test_without_a_word_on_how_long_holds_double_until_a_call_goes_well() -> None:
    rate, now_ms, holds = at_work(a=1), NOW_MS, list[int]()
    for _ in range(9):
        rate = turned_away(rate, None, now_ms=now_ms, spread=0.999999)
        holds.append(rate.held_until_ms - now_ms)
        now_ms = rate.held_until_ms + 10
    assert holds[:4] == [BACKOFF_BASE_MS * 2**n - 1 for n in range(4)]
    assert holds[-1] == BACKOFF_MAX_MS - 1
    well = replied(rate, now_ms, now_ms + 5)
    again = turned_away(well, None, now_ms=now_ms + 10, spread=0.999999)
    assert again.held_until_ms - now_ms - 10 == BACKOFF_BASE_MS - 1


def test_holds_without_a_word_are_spread() -> None:
    ends = {turned_away(at_work(a=1), None, spread=i / 10).held_until_ms for i in range(10)}
    assert len(ends) == 10
    assert min(ends) >= NOW_MS + BACKOFF_BASE_MS // 2


# ---------------------------------------------------------------------- calls at once


def test_a_refusal_halves_the_calls_at_once_and_good_replies_add_to_them_slowly() -> None:
    rate = turned_away(at_work(a=6, b=6), 1_000)
    assert rate.bound == 6
    rate = counted(counted(rate, "a", 0), "b", 0)
    began_ms = rate.held_until_ms + 1
    for _ in range(6):
        rate = replied(rate, began_ms, began_ms + 1)
    assert 6.9 < (rate.bound or 0) < 7
    assert turned_away(counted(rate, "a", 6), now_ms=began_ms + 2).bound == 3


def test_a_burst_that_is_turned_away_together_halves_once() -> None:
    rate = at_work(a=12)
    for index in range(12):  # all of them began before the first was turned away
        rate = refused(rate, Refusal(NOW_MS - 50, 2_000 + index, 0.0), NOW_MS + index)
    assert rate.bound == 6
    assert rate.refusals == 1
    assert rate.held_until_ms == NOW_MS + 2_000 + 11 + 11


def test_a_reply_to_a_call_from_before_the_refusal_says_nothing_of_the_new_bound() -> None:
    rate = turned_away(at_work(a=4))
    assert replied(rate, NOW_MS - 100, NOW_MS + 100) == rate


def test_one_call_at_once_is_always_allowed() -> None:
    rate = at_work(a=1)
    for index in range(5):
        rate = turned_away(rate, 10, now_ms=NOW_MS + 100 * index)
    assert rate.bound == 1
    assert begun(admit(counted(rate, "a", 0), NO_QUOTA, call(), NOW_MS + 1_000)).in_flight == {
        "a": 1
    }


def test_calls_of_all_epochs_count_against_the_bound() -> None:
    rate = turned_away(at_work(a=2, b=3, c=1), 10)
    later_ms = NOW_MS + 10
    assert waits(admit(rate, NO_QUOTA, call("a", 2), later_ms)).until_ms is None
    rate = counted(counted(rate, "b", 0), "c", 0)
    assert begun(admit(rate, NO_QUOTA, call("a", 2), later_ms)).in_flight == {"a": 3}
    assert waits(admit(rate, NO_QUOTA, call("a", 3), later_ms)).until_ms is None


def test_what_an_epoch_says_of_itself_replaces_what_is_noted_of_it() -> None:
    rate = at_work(a=5)
    assert begun(admit(rate, Quota(concurrency=2), call("a", 1), NOW_MS)).in_flight == {"a": 2}
    assert counted(rate, "a", 0).in_flight == {}
    assert counted(rate, "a", 5) is rate


def test_epochs_that_ended_have_nothing_in_flight() -> None:
    rate = at_work(a=1, b=2)
    assert without(rate, lambda epoch: epoch == "b").in_flight == {"a": 1}
    assert without(rate, lambda _: False) is rate


def test_what_a_refusal_taught_is_forgotten_after_a_calm_while() -> None:
    rate = turned_away(at_work(a=8), 10)
    assert in_force(rate, NO_QUOTA, NOW_MS + CALM_MS - 1)
    assert not in_force(rate, NO_QUOTA, NOW_MS + CALM_MS)
    assert replied(rate, NOW_MS + CALM_MS, NOW_MS + CALM_MS + 1).bound is None


def test_the_stricter_of_quota_and_experience_counts() -> None:
    rate = turned_away(at_work(a=8), 10)  # 4 are left
    later_ms = NOW_MS + 10
    for concurrency, allowed in ((2, 2), (100, 4)):
        quota = Quota(concurrency=concurrency)
        begun(admit(rate_of(rate), quota, call(mine=allowed - 1), later_ms))
        assert waits(admit(rate_of(rate), quota, call(mine=allowed), later_ms))


def rate_of(rate: Rate) -> Rate:
    """As it is once everything in flight has ended."""
    return rate.model_copy(update={"in_flight": {}})


def test_a_fresh_start_lets_one_call_at_once_begin_where_only_so_many_may() -> None:
    quota = Quota(concurrency=4)
    rate = Rate(born_ms=NOW_MS)
    first = begun(admit(rate, quota, call("a"), NOW_MS))
    wait = waits(admit(first, quota, call("b"), NOW_MS))
    assert wait.until_ms == NOW_MS + SETTLE_MS
    begun(admit(first, quota, call("b"), NOW_MS + SETTLE_MS))


# ---------------------------------------------------------------------- by the minute


@pytest.mark.parametrize("per_min", [1, 2, 7, 20, 60, 333])
def test_no_minute_has_more_requests_than_the_quota_and_a_busy_one_has_nearly_all(
    per_min: int,
) -> None:
    quota, rate, now_ms, begins = Quota(requests_per_min=per_min), Rate(), NOW_MS, list[int]()
    dice = Random(per_min)
    while len(begins) < 3 * per_min + 5:
        answer = admit(rate, quota, call(), now_ms)
        if isinstance(answer, Rate):
            rate = answer
            begins.append(now_ms)
            if dice.random() < 0.02:
                now_ms += dice.randrange(2 * MINUTE_MS)  # a lull, in which something may add up
            continue
        assert answer.until_ms is not None
        assert answer.until_ms > now_ms
        now_ms = answer.until_ms
    for index, start_ms in enumerate(begins):
        assert sum(time < start_ms + MINUTE_MS for time in begins[index:]) <= per_min
    busy = Rate(requests=Bucket(level=0, at_ms=NOW_MS))
    now_ms, done = NOW_MS, 0
    while now_ms < NOW_MS + 10 * MINUTE_MS:
        answer = admit(busy, quota, call(), now_ms)
        if isinstance(answer, Rate):
            busy, done = answer, done + 1
        else:
            now_ms = answer.until_ms or 0
    assert done >= 9.3 * per_min - 1


def test_a_bucket_nobody_remembers_holds_one_call() -> None:
    quota = Quota(requests_per_min=600, tokens_per_min=90_000)
    first = begun(admit(Rate(), quota, call(tokens=50_000), NOW_MS))
    assert waits(admit(first, quota, call(tokens=1), NOW_MS)).until_ms


def test_tokens_flow_in_over_the_minute_up_to_the_quota() -> None:
    quota = Quota(tokens_per_min=60_000)
    rate = begun(admit(Rate(), quota, call(tokens=1), NOW_MS))
    wait = waits(admit(rate, quota, call(tokens=30_000), NOW_MS))
    assert wait.until_ms == NOW_MS + MINUTE_MS // 2
    full = begun(admit(rate, quota, call(tokens=60_000), NOW_MS + 5 * MINUTE_MS))
    assert waits(admit(full, quota, call(tokens=1_000), NOW_MS + 5 * MINUTE_MS)).until_ms == (
        NOW_MS + 5 * MINUTE_MS + 1_000
    )


def test_a_call_that_may_need_more_than_a_minute_allows_needs_a_full_bucket() -> None:
    quota = Quota(tokens_per_min=1_000)
    rate = begun(admit(Rate(), quota, call(tokens=5), NOW_MS))
    assert waits(admit(rate, quota, call(tokens=10**6), NOW_MS)).until_ms == NOW_MS + MINUTE_MS
    begun(admit(rate, quota, call(tokens=10**6), NOW_MS + MINUTE_MS))


def test_what_a_call_did_not_use_is_given_back_and_what_it_used_too_much_is_owed() -> None:
    quota = Quota(tokens_per_min=60_000)
    rate = begun(admit(Rate(), quota, call(tokens=60_000), NOW_MS))
    less = settled(rate, quota, 60_000, 20_000, NOW_MS)
    begun(admit(less, quota, call(tokens=40_000), NOW_MS))
    assert waits(admit(less, quota, call(tokens=40_001), NOW_MS))
    more = settled(rate, quota, 1_000, 31_000, NOW_MS)
    wait = waits(admit(more, quota, call(tokens=1_000), NOW_MS))
    assert wait.until_ms == NOW_MS + 31_000


def test_a_call_that_was_not_made_costs_no_request() -> None:
    quota = Quota(requests_per_min=1)
    rate = begun(admit(Rate(), quota, call(), NOW_MS))
    assert waits(admit(rate, quota, call(), NOW_MS))
    begun(admit(unasked(rate, quota, NOW_MS), quota, call(), NOW_MS))


def test_of_two_limits_by_the_minute_none_is_charged_when_the_other_says_wait() -> None:
    quota = Quota(requests_per_min=60, tokens_per_min=60)
    rate = Rate(requests=Bucket(level=1, at_ms=NOW_MS), tokens=Bucket(level=0, at_ms=NOW_MS))
    assert waits(admit(rate, quota, call(tokens=60), NOW_MS)).until_ms == NOW_MS + MINUTE_MS


def test_a_clock_that_is_behind_fills_no_bucket() -> None:
    quota = Quota(requests_per_min=60)
    ahead = Rate(requests=Bucket(level=0, at_ms=NOW_MS + 30_000))
    assert waits(admit(ahead, quota, call(), NOW_MS)).until_ms == NOW_MS + 1_045


# ---------------------------------------------------------------------- after a loss


def test_what_a_server_lost_is_told_again_and_the_stricter_counts() -> None:
    known = turned_away(at_work(a=8, b=2), 9_000).model_copy(
        update={"provider": "p", "requests": Bucket(level=1, at_ms=NOW_MS)}
    )
    other = held(
        Rate(bound=2.0, cut_ms=NOW_MS, requests=Bucket(level=3, at_ms=NOW_MS)), NOW_MS + 99, NOW_MS
    )
    both = recalled(other, known, NOW_MS)
    assert (both.held_until_ms, both.bound, both.provider) == (NOW_MS + 9_000, 2.0, "p")
    assert both.requests == known.requests
    assert both.in_flight == {}
    assert recalled(both, known, NOW_MS) == both
    assert recalled(Rate(), known, NOW_MS).bound == known.bound


def test_only_what_would_make_a_call_wait_is_worth_keeping() -> None:
    quota = Quota(requests_per_min=5, tokens_per_min=5)
    spent = Rate(requests=Bucket(level=0, at_ms=NOW_MS))
    assert not worth_keeping(Rate(), quota, NOW_MS)
    assert worth_keeping(spent, quota, NOW_MS)
    assert not worth_keeping(spent, NO_QUOTA, NOW_MS)
    assert not worth_keeping(spent, quota, NOW_MS + MINUTE_MS + 1)
    assert worth_keeping(Rate(tokens=Bucket(level=0, at_ms=NOW_MS)), quota, NOW_MS)
    assert worth_keeping(turned_away(at_work(a=2), 5), NO_QUOTA, NOW_MS + 6)
    assert worth_keeping(held(Rate(), NOW_MS + 5, NOW_MS), NO_QUOTA, NOW_MS)


def test_a_note_of_a_newer_release_is_read_as_far_as_it_is_known() -> None:
    data = canonical({**turned_away(at_work(a=2)).model_dump(), "shape": "new"})
    assert Rate.model_validate_json(data) == turned_away(at_work(a=2))


def test_steps_taken_twice_change_nothing_more() -> None:
    """An answer to a compare and set may be lost: then the same step is taken again."""
    once = turned_away(at_work(a=4))
    assert turned_away(once) == once
    assert counted(counted(once, "b", 3), "b", 3) == counted(once, "b", 3)
    assert held(held(once, NOW_MS + 77_000, NOW_MS), NOW_MS + 77_000, NOW_MS) == held(
        once, NOW_MS + 77_000, NOW_MS
    )


def test_a_rate_stays_small() -> None:
    rate = turned_away(Rate(in_flight={f"{i:08x}-{i:08x}-{i:08x}-{i}-{i}": i for i in range(50)}))
    assert len(canonical(rate)) < 4_096
    assert [a < b for a, b in pairwise(counted(rate, "0", 1).in_flight)] == [True] * 50
