"""What the headers of an answer say of limits and waits. Not what is done about it."""

import pytest

from services.loop.models.port import RateSign, RateSigns
from services.loop.models.rates import rate_signs, retry_after_ms

DATE = {"date": "Sat, 28 Nov 2026 10:00:00 GMT"}


def test_answer_without_a_word_of_limits_has_no_signs() -> None:
    assert rate_signs({**DATE, "content-type": "text/event-stream"}) is None


def test_signs_of_anthropic_are_moments_against_the_answers_own_date() -> None:
    headers = {
        **DATE,
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-28T10:00:02Z",
        "anthropic-ratelimit-tokens-remaining": "1000",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-28T09:59:00Z",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "soon",
    }
    assert rate_signs(headers) == RateSigns(
        requests=RateSign(remaining=49, limit=50, reset_ms=2_000),
        tokens=RateSign(remaining=1_000),
        input_tokens=RateSign(remaining=39_000, limit=40_000, reset_ms=0),
        output_tokens=RateSign(remaining=0),
    )


def test_moment_without_a_date_to_measure_it_by_is_unknown() -> None:
    headers = {
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-28T10:00:02Z",
    }
    assert rate_signs(headers) == RateSigns(requests=RateSign(remaining=49))


@pytest.mark.parametrize(
    ("text", "reset_ms"),
    [
        ("1s", 1_000),
        ("6m0s", 360_000),
        ("20ms", 20),
        ("1h2m3.5s", 3_723_500),
        ("1d", 86_400_000),
        ("1.5", 1_500),
        ("0s", 0),
        ("", None),
        ("s", None),
        ("1x", None),
        ("-1s", None),
        ("nan", None),
    ],
)
def test_signs_of_openai_are_spans(text: str, reset_ms: int | None) -> None:
    headers = {"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": text}
    assert rate_signs(headers) == RateSigns(tokens=RateSign(remaining=7, reset_ms=reset_ms))


def test_signs_of_fireworks_tell_prompt_and_generated_tokens_apart() -> None:
    headers = {
        "x-ratelimit-limit-tokens-prompt": "7200000",
        "x-ratelimit-remaining-tokens-prompt": "7193993",
        "x-ratelimit-remaining-tokens-generated": "69338",
    }
    assert rate_signs(headers) == RateSigns(
        input_tokens=RateSign(remaining=7_193_993, limit=7_200_000),
        output_tokens=RateSign(remaining=69_338),
    )


@pytest.mark.parametrize("remaining", ["", "many", "-1", "inf", "nan"])
def test_count_that_is_no_count_says_nothing(remaining: str) -> None:
    assert rate_signs({"x-ratelimit-remaining-requests": remaining}) is None


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3_000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after": "3", "retry-after-ms": "77"}, 77),
        ({"retry-after": "Sat, 28 Nov 2026 10:00:30 GMT", **DATE}, 30_000),
        ({"retry-after": "Sat, 28 Nov 2026 09:00:00 GMT", **DATE}, 0),
        ({"retry-after": "Sat, 28 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "Sat, 28 Nov 2026 10:00:30", **DATE}, None),
        ({"retry-after": "tomorrow", **DATE}, None),
        ({"retry-after": "-5"}, None),
    ],
)
def test_wait_is_read_in_every_form(headers: dict[str, str], wait_ms: int | None) -> None:
    assert retry_after_ms(headers) == wait_ms
