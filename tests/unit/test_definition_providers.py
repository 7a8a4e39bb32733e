"""Providers of a definition: settings, headers, sampling, fallbacks, tools. Not their wire."""

from pathlib import Path
from typing import Any

import pytest

from domain.errors import Rejected
from domain.limits import ModelChoice, Sampling
from domain.provider_tools import ProviderSkill, ProviderTool
from peritus.definitions import Operator
from peritus.definitions.providers import PROVIDERS
from services.loop.models.capabilities import unsupported
from services.loop.models.providers import PROVIDERS as SPOKEN
from services.loop.models.scripted import PROVIDER as SCRIPTED
from tests.support.definitions import HELLO, expert, hello, load, problem, problems

FAR = """\
[providers.far]
providerName = "openai-chat"
model = "local"
[providers.far.setting]
baseUrl = "http://10.0.0.7/v1"
"""

OTHER = 'provider = "far"\nmodel = "other"'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.toml").write_text("")
    return tmp_path


def provider(name: str, setting: str = "") -> str:
    return f'[provider]\nproviderName = "{name}"\n[provider.setting]\n{setting}\n'


def model(project: Path, text: str, **asked: Any) -> ModelChoice:
    return hello(project, text, **asked).model


# settings


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("openai", 'organization = "o"', {"organization": "o"}),
        (
            "openai-chat",
            'project = "p"\nname = "My proxy"',
            {"name": "My proxy", "project": "p"},
        ),
        (
            "azure-openai",
            'resourceName = "r"\napiVersion = "v1"\nuseDeploymentBasedUrls = true',
            {"apiVersion": "v1", "resourceName": "r", "useDeploymentBasedUrls": "true"},
        ),
        (
            "azure-openai",
            'resourceName = "r"\nuseDeploymentBasedUrls = false',
            {"resourceName": "r", "useDeploymentBasedUrls": "false"},
        ),
        ("amazon-bedrock", 'region = "eu-central-1"', {"region": "eu-central-1"}),
        (
            "google-vertex",
            'project = "p-1"\nlocation = "europe-west4"',
            {"location": "europe-west4", "project": "p-1"},
        ),
    ],
)
def test_settings_go_to_the_model_by_the_names_of_the_file(
    project: Path, name: str, setting: str, expected: dict[str, str]
) -> None:
    found = model(project, f'model = "m"\n{provider(name, setting)}{HELLO}')
    assert (found.provider, found.settings) == (name, expected)
    assert list(found.settings) == sorted(expected)
    assert unsupported(found) == []


@pytest.mark.parametrize(
    ("name", "setting", "says"),
    [
        (
            "anthropic",
            'region = "x"',
            "provider 'anthropic' has no setting 'region': it takes base",
        ),
        ("amazon-bedrock", 'baseUrl = "https://a.b"', "has no setting 'baseUrl': it takes region"),
        ("scripted", 'headers = { a = "b" }', "has no setting 'headers': it takes none"),
        (
            "azure-openai",
            'resourceName = "a.evil.com/"',
            "resourceName: 'a.evil.com/' is not a name",
        ),
        ("amazon-bedrock", 'region = "x.evil.com#"', "region: 'x.evil.com#' is not a name"),
        ("google-vertex", 'project = "p/../q"', "project: 'p/../q' is not a name"),
        ("openai", "organization = 1", "organization must be a text"),
        (
            "azure-openai",
            'useDeploymentBasedUrls = "yes"',
            "useDeploymentBasedUrls must be true or",
        ),
        ("openai", 'organisation = "o"', "unknown key 'organisation'"),
    ],
)
def test_wrong_setting_is_an_error_on_its_line(
    project: Path, name: str, setting: str, says: str
) -> None:
    found = problems(project, f'model = "m"\n{provider(name, setting)}{HELLO}')
    assert any(line.startswith("perstack.toml:5: ") and says in line for line in found), found


def test_setting_that_a_provider_cannot_do_without_is_asked_for(project: Path) -> None:
    found = problem(project, provider("amazon-bedrock") + HELLO)
    assert "region: amazon-bedrock needs it" in found


def test_settings_and_addresses_may_come_from_variables_and_the_file_beats_them(
    project: Path,
) -> None:
    operator = Operator(environment={"AWS_REGION": "us-east-1", "OLLAMA_BASE_URL": "http://gpu:1"})
    bedrock = model(project, provider("amazon-bedrock") + HELLO, operator=operator)
    assert bedrock.settings == {"region": "us-east-1"}
    text = provider("amazon-bedrock", 'region = "eu-west-1"') + HELLO
    assert model(project, text, operator=operator).settings == {"region": "eu-west-1"}
    assert (
        model(project, f'provider = "ollama"\n{HELLO}', operator=operator).base_url
        == "http://gpu:1"
    )
    wrong = Operator(environment={"OPENAI_BASE_URL": "http://example.com"})
    found = problem(project, HELLO, operator=wrong)
    assert "the variable OPENAI_BASE_URL: 'http://example.com' must be https" in found


def test_headers_go_to_the_model_sorted(project: Path) -> None:
    text = provider("anthropic", 'headers = { "X-Team" = "blue", "Anthropic-Beta" = "a,b" }')
    found = model(project, text + HELLO)
    assert list(found.headers.items()) == [("Anthropic-Beta", "a,b"), ("X-Team", "blue")]


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ('{ Host = "s3cret" }', "is set by the client itself"),
        ('{ "X-A" = "1", "x-a" = "s3cret" }', "is given twice, in other letters"),
        ('{ "X A" = "s3cret" }', "is not the name of a header"),
        ('{ "X-A" = "s3cret\\r\\nX-B: 1" }', "must be printable ASCII, on one line"),
        ('{ "X-A" = "s3crét" }', "must be printable ASCII, on one line"),
        ('{ "X-A" = 1 }', "must be a text"),
        ('"X-A: s3cret"', "must be a table"),
    ],
)
def test_wrong_header_is_an_error_that_never_shows_its_value(
    project: Path, headers: str, says: str
) -> None:
    found = problem(project, provider("openai", f"headers = {headers}") + HELLO)
    assert found.startswith("perstack.toml:4: ")
    assert says in found
    assert "s3cr" not in found


# several providers


def test_experts_of_one_file_may_have_providers_of_their_own(project: Path) -> None:
    text = f"""\
provider = "anthropic"
{FAR}
{expert(name="a")}
{expert('provider = "far"', name="b")}
{expert(OTHER, name="c")}
{expert('provider = "google"', name="d")}"""
    experts = load(project, text).definition.experts
    chosen = {key: (one.model.provider, one.model.model) for key, one in experts.items()}
    assert chosen == {
        "a": ("anthropic", "claude-sonnet-4-6"),
        "b": ("openai-chat", "local"),
        "c": ("openai-chat", "other"),
        "d": ("google", "gemini-2.5-flash"),
    }
    assert [one.model.base_url for one in experts.values()] == [
        *(None, "http://10.0.0.7/v1", "http://10.0.0.7/v1", None),
    ]


def test_default_provider_may_be_one_of_those_that_are_named(project: Path) -> None:
    for head in ('provider = "far"\n', '[provider]\nproviderName = "far"\n'):
        found = model(project, f"{head}{FAR}{HELLO}")
        assert (found.provider, found.model) == ("openai-chat", "local")


def test_named_provider_that_is_a_provider_needs_no_other_name(project: Path) -> None:
    text = '[providers.openai.setting]\norganization = "o"\n' + expert('provider = "openai"')
    assert model(project, text).settings == {"organization": "o"}


def test_flag_may_name_a_provider_of_the_file(project: Path) -> None:
    found = model(project, FAR + HELLO, provider="far")
    assert (found.provider, found.model) == ("openai-chat", "local")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("[providers.far]\n", "1: providers.far needs 'providerName', since 'far' is no provider"),
        ('[providers.far]\nproviderName = "opena"\n', "2: unknown provider 'opena'; did you mean"),
        (
            '[providers.openai]\nproviderName = "google"\n',
            "1: 'openai' is itself a provider: call providers.openai another name",
        ),
        ('[providers."a/b"]\nproviderName = "openai"\n', "1: 'a/b' cannot name a provider"),
        ('provider = "far"\n', "1: unknown provider 'far'; there are amazon-bedrock, anthropic"),
        ("provider = 1\n", "1: provider must be a table"),
        ("[providers]\nfar = 1\n", "2: providers.far must be a table"),
        (
            '[provider]\nproviderName = "openai"\n[provider.setting]\nproject = "p"\n'
            '[providers.openai.setting]\nproject = "q"\n',
            "3: settings of 'openai' belong to providers.openai.setting: keep one of them",
        ),
    ],
)
def test_wrong_provider_is_an_error_on_its_line(project: Path, head: str, says: str) -> None:
    assert problem(project, head + HELLO).startswith(f"perstack.toml:{says}")


def test_provider_that_is_not_set_up_is_an_error_with_a_suggestion(project: Path) -> None:
    assert problem(project, FAR + expert('provider = "farr"')).endswith(
        "unknown provider 'farr'; did you mean 'far'?"
    )
    with pytest.raises(Rejected) as caught:
        load(project, FAR + HELLO, provider="farr")
    assert caught.value.code == "unknown_provider"


def test_tier_is_a_model_of_each_provider_that_has_tiers(project: Path) -> None:
    operator = Operator(
        environment={
            "AWS_REGION": "a", "GOOGLE_VERTEX_PROJECT": "p", "GOOGLE_VERTEX_LOCATION": "l",
        }
    )  # fmt: skip
    text = expert('defaultModelTier = "low"')
    for name, known in PROVIDERS.items():
        if known.tiers is not None:
            found = model(project, text, provider=name, operator=operator)
            assert (found.provider, found.model) == (name, known.tiers.low)


# sampling


def test_sampling_of_the_expert_beats_the_file(project: Path) -> None:
    top = 'temperature = 0.5\ntopP = 0.9\nseed = 1\nstop = "END"\nmaxOutputTokens = 100\n'
    keys = 'temperature = 1\nstop = ["A", "B"]\nmaxOutputTokens = 200'
    found = model(project, f"{top}{FAR}" + expert(f'provider = "far"\n{keys}\ntopK = 3'))
    assert found.sampling == Sampling(temperature=1, top_p=0.9, top_k=3, seed=1, stop=("A", "B"))
    assert found.output_tokens_max == 200
    other = model(project, top + FAR + expert('stop = []\nprovider = "far"'))
    assert (other.sampling.stop, other.output_tokens_max) == ((), 100)


def test_temperature_of_the_whole_file_is_left_out_where_a_model_takes_none(project: Path) -> None:
    loaded = load(project, f"temperature = 0.3\n{HELLO}")
    assert loaded.definition.experts["hello"].model.sampling == Sampling()
    (notice,) = loaded.notices
    assert notice.startswith("perstack.toml:1: 'temperature' is left out for experts.hello: ")


def test_temperature_that_is_written_for_a_model_that_takes_none_is_an_error(project: Path) -> None:
    found = problem(project, expert("temperature = 0.3"))
    assert found.startswith("perstack.toml:3: experts.hello.temperature: anthropic does not take")
    loaded = load(project, expert("temperature = 0.3"), model="claude-opus-4-6")
    assert len(loaded.notices) == 1


def test_script_takes_any_sampling(project: Path) -> None:
    text = expert("temperature = 0.3\ntopK = 4")
    found = model(project, text, provider="scripted", model="script.toml")
    assert found.sampling == Sampling(temperature=0.3, top_k=4)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("temperature = 2.1", "should be less than or equal to 2"),
        ("temperature = -1", "should be greater than or equal to 0"),
        ("temperature = nan", "should be a finite number"),
        ("topP = 0", "should be greater than 0"),
        ("topP = 1.1", "should be less than or equal to 1"),
        ("topK = 0", "should be greater than or equal to 1"),
        ("seed = 1.5", "must be a whole number"),
        ("stop = 1", "must be a list"),
        ("stop = [1]", "must be a text"),
        ('stop = [""]', "should have at least 1 character"),
        (f"stop = {['a'] * 17}", "at most 16 items"),
        ("maxOutputTokens = 0", "should be greater than or equal to 1"),
    ],
)
def test_sampling_out_of_bounds_is_an_error_on_its_line(project: Path, key: str, says: str) -> None:
    name = key.split(" ", 1)[0]
    for found in (problem(project, f"{key}\n{HELLO}"), problem(project, expert(key))):
        assert name in found
        assert says in found


# fallbacks


def test_fallbacks_are_models_in_their_order_with_the_parameters_of_the_expert(
    project: Path,
) -> None:
    keys = """\
maxOutputTokens = 50
reasoningBudget = "high"
fallbacks = [
  "openai/gpt-5",
  { provider = "far", temperature = 0.2 },
  { model = "claude-opus-4-6" },
]"""
    found = hello(project, FAR + expert(keys))
    assert [(one.provider, one.model) for one in found.fallbacks] == [
        ("openai", "gpt-5"),
        ("openai-chat", "local"),
        ("anthropic", "claude-opus-4-6"),
    ]
    assert {one.output_tokens_max for one in found.fallbacks} == {50}
    assert {one.reasoning for one in found.fallbacks} == {"high"}
    assert [one.sampling.temperature for one in found.fallbacks] == [None, 0.2, None]
    assert found.fallbacks[0].price is not None


def test_model_with_slashes_is_split_at_the_first(project: Path) -> None:
    name = "accounts/fireworks/models/kimi-k2p5"
    (found,) = hello(project, expert(f'fallbacks = ["fireworks/{name}"]')).fallbacks
    assert (found.provider, found.model) == ("fireworks", name)


def test_fallbacks_of_the_file_are_those_of_experts_without_any(project: Path) -> None:
    top = 'fallbacks = ["openai/gpt-5", "anthropic/claude-sonnet-4-6"]\n'
    text = top + expert(name="a") + expert("fallbacks = []", name="b")
    experts = load(project, text).definition.experts
    assert [one.model for one in experts["a"].fallbacks] == ["gpt-5"]  # the other is its own
    assert experts["b"].fallbacks == ()


@pytest.mark.parametrize(
    ("fallbacks", "says"),
    [
        ('"openai/gpt-5"', "experts.hello.fallbacks must be a list"),
        ('["gpt-5"]', "unknown provider 'gpt-5'"),
        ('["openai"]', "experts.hello.fallbacks[0] must be 'provider/model'"),
        ('["openai/"]', "experts.hello.fallbacks[0] must be 'provider/model'"),
        ("[1]", "experts.hello.fallbacks[0] must be 'provider/model'"),
        ('[{ provider = "openai" }]', "experts.hello.fallbacks[0] must be 'provider/model'"),
        ('[{ modle = "m" }]', "unknown key 'modle' in experts.hello.fallbacks[0]; did you mean"),
        (
            '["openai/a", "openai/a"]',
            "experts.hello.fallbacks[1] is the expert's model or fallback",
        ),
        ('["anthropic/claude-sonnet-4-6"]', "experts.hello.fallbacks[0] is the expert's model or"),
        ('[{ model = "a", topK = 3 }]', "experts.hello.fallbacks[0].topK: anthropic does not take"),
        (str(["openai/a"] * 9), "experts.hello.fallbacks may have 8 entries"),
    ],
)
def test_wrong_fallback_is_an_error_on_its_line(project: Path, fallbacks: str, says: str) -> None:
    found = problems(project, expert(f"fallbacks = {fallbacks}"))
    assert found[0].startswith("perstack.toml:3: ")
    assert any(says in line for line in found), found


@pytest.mark.parametrize("flag", [{"provider": "google"}, {"model": "claude-opus-4-6"}])
def test_model_that_is_asked_for_has_no_fallbacks(project: Path, flag: dict[str, str]) -> None:
    loaded = load(project, expert('fallbacks = ["openai/gpt-5"]'), **flag)
    assert loaded.definition.experts["hello"].fallbacks == ()
    (notice,) = loaded.notices
    assert notice.startswith("perstack.toml:3: fallbacks are left out")


def test_fallback_has_to_run_the_tools_of_the_expert(project: Path) -> None:
    tools = 'providerTools = ["webFetch"]'
    found = problem(project, expert(f'{tools}\nfallbacks = ["openai/gpt-5"]'))
    assert found.startswith("perstack.toml:4: experts.hello.fallbacks[0] cannot stand in: ")
    loaded = load(project, 'fallbacks = ["openai/gpt-5"]\n' + expert(tools))
    assert loaded.definition.experts["hello"].fallbacks == ()
    (notice,) = loaded.notices
    assert notice.startswith("perstack.toml:1: fallbacks[0] does not stand by everywhere: ")


# tools and skills of a provider


def test_tools_of_a_provider_keep_their_order_and_options(project: Path) -> None:
    keys = """\
providerTools = ["webSearch", "codeExecution"]
providerToolOptions.webSearch = { maxUses = 2, allowedDomains = [] }
providerToolOptions.webFetch = { maxUses = 1 }"""
    loaded = load(project, expert(keys))
    assert loaded.definition.experts["hello"].provider_tools == (
        ProviderTool(name="webSearch", options={"maxUses": 2}),
        ProviderTool(name="codeExecution"),
    )
    assert loaded.notices == (
        "perstack.toml:5: experts.hello.providerToolOptions.webFetch has no effect: "
        "'webFetch' is not in 'providerTools'",
    )


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('providerTools = ["webSerach"]', "no provider has a tool 'webSerach'; did you mean"),
        ('providerTools = ["codeInterpreter"]', "anthropic has no 'codeInterpreter'"),
        ('providerTools = ["webFetch", "webFetch"]', "'webFetch' is written twice"),
        (
            'providerTools = ["webSearch"]\nproviderToolOptions.webSearch.maxUse = 1',
            "anthropic has no such option",
        ),
        (
            'providerTools = ["webSearch"]\nproviderToolOptions.webSearch.maxUses = 0',
            "0 is not a whole number above zero",
        ),
        ("providerToolOptions.webSearch = 1", "providerToolOptions.webSearch must be a table"),
        ("providerSkills = [1]", 'must be a table with type = "builtin" or "custom"'),
        ('providerSkills = [{ type = "bultin" }]', 'type = "builtin" or "custom"'),
        (
            'providerSkills = [{ type = "builtin", skillId = "pdff" }]',
            "no built-in skill 'pdff'; did you mean 'pdf'?",
        ),
        (
            'providerSkills = [{ type = "builtin" }]',
            "'skillId' is missing in experts.hello.providerSkills[0]",
        ),
        (
            'provider = "openai"\nproviderSkills = [{ type = "builtin", skillId = "pdf" }]',
            "openai loads no skills",
        ),
    ],
)
def test_wrong_tool_or_skill_of_a_provider_is_an_error(project: Path, keys: str, says: str) -> None:
    assert says in "\n".join(problems(project, expert(keys)))


def test_tool_that_the_seed_knows_and_nobody_can_ask_for_is_left_out_with_a_notice(
    project: Path,
) -> None:
    text = 'provider = "google"\n' + expert('providerTools = ["googleSearch"]')
    loaded = load(project, text)
    assert loaded.definition.experts["hello"].provider_tools == ()
    (notice,) = loaded.notices
    assert notice.startswith("perstack.toml:4: experts.hello.providerTools[0] is left out: ")


def test_skills_of_a_provider_are_its_own_by_id_and_custom_ones_that_are_uploaded(
    project: Path,
) -> None:
    keys = """\
providerSkills = [
  { type = "builtin", skillId = "pdf" },
  { type = "custom", name = "style", definition = "skill_01AbC" },
  { type = "custom", name = "long", definition = "Write well." },
]"""
    loaded = load(project, expert(keys))
    assert loaded.definition.experts["hello"].provider_skills == (
        ProviderSkill(kind="builtin", name="pdf"),
        ProviderSkill(kind="custom", name="style", definition="skill_01AbC"),
    )
    (notice,) = loaded.notices
    assert notice.startswith("perstack.toml:6: experts.hello.providerSkills[2] is left out: ")


def test_flag_that_changes_the_provider_leaves_its_tools_and_skills_out(project: Path) -> None:
    keys = 'providerTools = ["webFetch"]\nproviderSkills = [{ type = "builtin", skillId = "pdf" }]'
    loaded = load(project, expert(keys), provider="openai")
    found = loaded.definition.experts["hello"]
    assert (found.provider_tools, found.provider_skills) == ((), ())
    assert [notice.split(":")[1] for notice in loaded.notices] == ["3", "4"]


# the tables of both sides


def test_settings_of_every_provider_are_those_the_models_know() -> None:
    for name, spoken in SPOKEN.items():
        own = set(PROVIDERS[name].settings) - {"baseUrl", "headers"}
        assert own == {setting.name for setting in spoken.settings}, name
    assert PROVIDERS[SCRIPTED].settings == ()
