"""What an operator may say of providers' limits, and what becomes of a mistake. Not the limiter."""

import pytest

from domain.errors import Rejected
from domain.rate import Quota
from peritus.settings import load_settings

NAME = "PERITUS_PROVIDER_LIMITS"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("{}", {}),
        ('{"ollama": {"concurrency": 1}}', {"ollama": Quota(concurrency=1)}),
        (
            '{"anthropic": {}, "openai/gpt-5": {"requests_per_min": 5, "tokens_per_min": 9000}}',
            {"anthropic": Quota(), "openai/gpt-5": Quota(requests_per_min=5, tokens_per_min=9_000)},
        ),
        ('{"scripted": {"concurrency": 2}}', {"scripted": Quota(concurrency=2)}),
        (
            '{"fireworks/accounts/x/models/y": {"concurrency": 2}}',
            {"fireworks/accounts/x/models/y": Quota(concurrency=2)},
        ),
    ],
)
def test_limits_are_read_by_provider_or_model(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: dict[str, Quota]
) -> None:
    monkeypatch.setenv(NAME, text)
    assert load_settings().provider_limits == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("20", "valid dictionary"),
        ("anthropic=20", "this is not JSON"),
        ('{"antropic": {}}', "did you mean 'anthropic'"),
        ('{"openai/": {}}', "names no model"),
        ('{"openai": {"concurency": 3}}', "OPENAI.CONCURENCY: Extra inputs"),
        ('{"openai": {"concurrency": 0}}', "greater than or equal to 1"),
        ('{"openai": {"requests_per_min": "many"}}', "valid integer"),
        ('{"openai": 5}', "Quota"),
    ],
)
def test_a_mistake_is_refused_with_its_place(
    monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(Rejected) as caught:
        load_settings()
    assert caught.value.code == "bad_setting"
    assert caught.value.message.startswith(NAME)
    assert says in caught.value.message
