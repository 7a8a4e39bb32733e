"""Which model each expert of a file is resolved to. Not how a model is called."""

from pathlib import Path

import pytest

from domain.errors import Rejected
from domain.limits import ModelChoice, Reasoning
from peritus.definitions import DefinitionError, LoadedDefinition, load_definition, parse_reasoning
from peritus.definitions.providers import PROVIDERS
from services.loop.models.registry import PROVIDERS as SPOKEN
from services.loop.models.scripted import PROVIDER as SCRIPTED

TIERS = {name: provider.tiers for name, provider in PROVIDERS.items()}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.toml").write_text("")
    return tmp_path


def load(
    project: Path,
    top: str = "",
    keys: str = "",
    *,
    provider: str | None = None,
    model: str | None = None,
    reasoning: Reasoning | None = None,
) -> LoadedDefinition:
    path = project / "perstack.toml"
    path.write_text(f'{top}\n[experts.a]\ninstruction = "x"\n{keys}\n')
    return load_definition(path, provider=provider, model=model, reasoning=reasoning)


def choice(loaded: LoadedDefinition) -> ModelChoice:
    return loaded.definition.experts["a"].model


def model_of(loaded: LoadedDefinition) -> tuple[str, str]:
    return choice(loaded).provider, choice(loaded).model


def problem(project: Path, top: str, keys: str = "") -> str:
    with pytest.raises(DefinitionError) as caught:
        load(project, top, keys)
    return caught.value.message


def provider(name: str, setting: str = "") -> str:
    return f'[provider]\nproviderName = "{name}"\n[provider.setting]\n{setting}'


def tier(name: str, level: int) -> str:
    tiers = TIERS[name]
    assert tiers is not None
    return tiers[level]


def test_nothing_said_is_the_middle_tier_of_the_default_provider(project: Path) -> None:
    found = choice(load(project))
    assert found == ModelChoice(
        provider="anthropic", model=tier("anthropic", 1), reasoning="low", price=found.price
    )


@pytest.mark.parametrize(
    ("top", "keys", "flag", "expected"),
    [
        ('model = "top"', "", None, "top"),
        ('model = "top"', 'defaultModelTier = "high"', None, tier("anthropic", 2)),
        ('model = "top"', 'defaultModelTier = "high"\nmodel = "own"', None, "own"),
        ('model = "top"', 'defaultModelTier = "high"\nmodel = "own"', "flag", "flag"),
        ("", 'defaultModelTier = "low"', None, tier("anthropic", 0)),
    ],
)
def test_flag_beats_expert_beats_tier_beats_file(
    project: Path, top: str, keys: str, flag: str | None, expected: str
) -> None:
    assert model_of(load(project, top, keys, model=flag)) == ("anthropic", expected)


def test_model_of_the_file_does_not_follow_to_another_provider(project: Path) -> None:
    top, keys = 'model = "top"', 'defaultModelTier = "low"'
    other = load(project, top, provider="openai")
    assert model_of(other) == ("openai", tier("openai", 1))
    assert model_of(load(project, top, keys, provider="openai")) == ("openai", tier("openai", 0))
    own = load(project, top, 'provider = "google"')
    assert model_of(own) == ("google", tier("google", 1))
    same = load(project, top, provider="anthropic")
    assert model_of(same) == ("anthropic", "top")


def test_flagged_model_is_not_for_an_expert_with_another_provider(project: Path) -> None:
    loaded = load(project, "", 'provider = "openai"', model="flag")
    assert model_of(loaded) == ("openai", tier("openai", 1))
    assert loaded.notices == (
        "perstack.toml:4: the given model 'flag' is not for 'a', whose provider is 'openai'",
    )
    forced = load(project, "", 'provider = "openai"', model="flag", provider="google")
    assert model_of(forced) == ("google", "flag")


def test_reasoning_of_the_flag_beats_the_expert_beats_the_file(project: Path) -> None:
    top, keys = 'reasoningBudget = "high"', "reasoningBudget = 2048"
    assert choice(load(project, top)).reasoning == "high"
    assert choice(load(project, top, keys)).reasoning == 2048
    assert choice(load(project, top, keys, reasoning="none")).reasoning == "none"
    assert choice(load(project, top, keys, reasoning=0)).reasoning == 0


@pytest.mark.parametrize(("text", "value"), [("none", "none"), ("high", "high"), ("512", 512)])
def test_reasoning_is_read_from_the_text_of_a_flag(text: str, value: Reasoning) -> None:
    assert parse_reasoning(text) == value


@pytest.mark.parametrize("text", ["", "lots", "-1", "1.5", "²"])
def test_other_reasoning_texts_are_refused(text: str) -> None:
    with pytest.raises(Rejected, match="reasoning budget"):
        parse_reasoning(text)


def test_unknown_provider_of_an_expert_or_a_flag_is_refused(project: Path) -> None:
    assert problem(project, "", 'provider = "opena"') == (
        "perstack.toml:4: unknown provider 'opena'; did you mean 'openai'?"
    )
    with pytest.raises(Rejected) as caught:
        load(project, provider="bedrock")
    assert caught.value.code == "unknown_provider"


def test_provider_without_tiers_needs_a_model(project: Path) -> None:
    assert "set 'model'" in problem(project, provider("openai-chat"))
    loaded = load(project, provider("openai-chat"), 'model = "local"')
    assert model_of(loaded) == ("openai-chat", "local")
    with pytest.raises(Rejected, match="set 'model'"):
        load(project, 'model = "top"', provider="openai-chat")


def test_scripts_in_the_file_start_at_the_file_and_flagged_ones_where_the_caller_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = f'model = "script.toml"\n{provider("scripted")}'
    assert model_of(load(project, top)) == (SCRIPTED, str(project / "script.toml"))
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.toml").write_text("")
    monkeypatch.chdir(elsewhere)
    assert model_of(load(project, top)) == (SCRIPTED, str(project / "script.toml"))
    flagged = load(project, provider="scripted", model="other.toml")
    assert model_of(flagged) == (SCRIPTED, str(elsewhere / "other.toml"))


def test_script_that_is_not_there_is_an_error(project: Path) -> None:
    message = problem(project, f'model = "none.toml"\n{provider("scripted")}')
    assert message.startswith("perstack.toml:1: the script ")
    with pytest.raises(Rejected, match="is not there"):
        load(project, provider="scripted", model="none.toml")


def test_base_url_goes_to_experts_of_that_provider_only(project: Path) -> None:
    top = provider("anthropic", 'baseUrl = "https://proxy.example.com"')
    assert choice(load(project, top)).base_url == "https://proxy.example.com"
    assert choice(load(project, top, 'provider = "openai"')).base_url is None
    assert choice(load(project, top, provider="openai")).base_url is None


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("anthropic", "http://127.0.0.1:8080"),
        ("anthropic", "http://localhost/v1"),
        ("openai", "http://[::1]:9/v1"),
        ("ollama", "http://gpu.internal:11434"),
        ("openai-chat", "http://10.0.0.7:8000/v1"),
    ],
)
def test_plain_http_is_for_this_machine_and_for_servers_of_ones_own(
    project: Path, name: str, url: str
) -> None:
    top = f'model = "m"\n{provider(name, f"baseUrl = {url!r}")}'
    assert choice(load(project, top)).base_url == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com", "must be https"),
        ("ftp://example.com", "is not an http or https address"),
        ("example.com", "is not an http or https address"),
        ("https://", "is not an http or https address"),
        ("https://[::1", "is not an address"),
        ("https://me:s3cret-one@[::1", "'https://[::1' is not an address"),
        ("http://me:s3cret-one@example.com", "'http://example.com' must be https"),
        ("https://a:${A}@example.com/${B}", "only a user and a password can be by reference"),
    ],
)
def test_other_base_urls_are_errors(project: Path, url: str, says: str) -> None:
    message = problem(project, provider("openai", f'baseUrl = "{url}"'))
    assert message.startswith("perstack.toml:4: provider.setting.baseUrl: ")
    assert says in message
    assert "s3cret" not in message


def test_setting_of_another_provider_is_an_error(project: Path) -> None:
    assert problem(project, provider("anthropic", 'organization = "o"')) == (
        "perstack.toml:4: provider 'anthropic' has no setting 'organization': "
        "it takes baseUrl, headers"
    )


def test_every_provider_of_definitions_is_one_the_models_speak_to() -> None:
    assert set(PROVIDERS) == {*SPOKEN, SCRIPTED}
