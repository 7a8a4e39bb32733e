"""Keys and passwords in a definition file: it loads, and only their names are in the definition."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.secrets import SECRET_NAME, SecretRef
from peritus.definitions.literals import (
    looks_secret,
    secret_name,
    take_out,
    take_out_endpoint,
)
from peritus.held import DefinitionSecrets
from services.loop.models.own_secrets import own_secrets, with_own_secrets
from tests.support.definitions import HELLO, hello, load, problem, write

KEY = "sk-lit3ral-key-of-a-file"

WITH_KEY = f"""\
[provider]
providerName = "openai"
[provider.setting]
baseUrl = "https://me:p%40ss-w0rd@proxy.example.com/v1"
headers = {{ Authorization = "Bearer {KEY}", "X-Team" = "blue" }}
"""

NAMED = """\
provider = "mine"
[providers.mine]
providerName = "openai-chat"
model = "m"
[providers.mine.setting]
baseUrl = "https://only-a-user@example.com/"
headers = { "X-Proxy-Token" = "0123456789" }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_with_a_key_loads_and_its_definition_has_the_name_only(project: Path) -> None:
    loaded = load(project, WITH_KEY + HELLO)
    model = loaded.definition.experts["hello"].model
    assert model.headers == {
        "Authorization": "Bearer ${OPENAI_HEADER_AUTHORIZATION}",
        "X-Team": "blue",
    }
    assert model.base_url == "https://me:${OPENAI_BASE_URL_PASSWORD}@proxy.example.com/v1"
    stored = loaded.definition.to_bytes().decode()
    assert KEY not in stored
    assert "ss-w0rd" not in stored


def test_the_notice_has_the_line_and_the_command_and_not_the_value(project: Path) -> None:
    notices = load(project, WITH_KEY + HELLO).notices
    assert [notice.partition(": ")[0] for notice in notices] == [
        "perstack.toml:4",
        "perstack.toml:5",
    ]
    assert "`peritus secrets set OPENAI_BASE_URL_PASSWORD`" in notices[0]
    assert "`peritus secrets set OPENAI_HEADER_AUTHORIZATION`" in notices[1]
    assert "write ${OPENAI_HEADER_AUTHORIZATION} in its place" in notices[1]
    assert not any(KEY in notice or "w0rd" in notice for notice in notices)


def test_the_file_itself_is_a_place_where_the_values_are_found(project: Path) -> None:
    source = DefinitionSecrets(write(project, {"perstack.toml": WITH_KEY + HELLO}))
    names = [place.name for place in source.places()]
    assert names == ["OPENAI_BASE_URL_PASSWORD", "OPENAI_HEADER_AUTHORIZATION"]
    values = [source.find(SecretRef(name=name)) for name in names]
    assert [value and value.reveal() for value in values] == ["p@ss-w0rd", KEY]
    assert source.find(SecretRef(name="OPENAI_API_KEY")) is None
    assert source.find(SecretRef(name=names[0], version="1")) is None
    assert "peritus secrets set" in source.problems(names[0])[0]
    assert source.problems("OPENAI_API_KEY") == []


def test_a_file_that_changes_is_read_again_and_one_that_breaks_has_no_secrets(
    project: Path,
) -> None:
    path = write(project, {"perstack.toml": WITH_KEY + HELLO})
    source = DefinitionSecrets(path)
    ref = SecretRef(name="OPENAI_HEADER_AUTHORIZATION")
    assert source.find(ref) is not None
    path.write_text(WITH_KEY.replace(KEY, "another-one-0123"))
    value = source.find(ref)
    assert value is not None
    assert value.reveal() == "another-one-0123"
    path.write_text("= no TOML")
    assert source.find(ref) is None
    path.unlink()
    assert source.places() == []


def test_named_providers_have_names_of_their_own(project: Path) -> None:
    model = hello(project, NAMED + HELLO).model
    assert model.headers == {"X-Proxy-Token": "${MINE_HEADER_X_PROXY_TOKEN}"}
    assert model.base_url == "https://${MINE_BASE_URL_USER}@example.com/"


def test_a_name_that_two_values_would_have_stands_for_neither(project: Path) -> None:
    text = "".join(
        f'[providers.{name}]\nproviderName = "openai-chat"\nmodel = "m"\n'
        f'setting = {{ headers = {{ "X-Token" = "{value}" }} }}\n'
        for name, value in (("a-b", "0123456789"), ("a_b", "abcdefghij"))
    )
    source = DefinitionSecrets(write(project, {"perstack.toml": text + HELLO}))
    assert source.places() == []


def test_a_reference_that_is_written_is_left_as_it_is(project: Path) -> None:
    text = (
        '[provider]\nproviderName = "openai"\n[provider.setting]\n'
        'baseUrl = "https://me:${PROXY}@example.com/"\n'
        'headers = { Authorization = "Bearer ${MY_KEY}" }\n'
    )
    loaded = load(project, text + HELLO)
    model = loaded.definition.experts["hello"].model
    assert loaded.notices == ()
    assert own_secrets(model) == ("PROXY", "MY_KEY")


def test_values_are_put_in_and_a_login_becomes_the_header_that_it_means(project: Path) -> None:
    model = hello(project, WITH_KEY.replace("Authorization", "X-API-Key") + HELLO).model
    values = {"OPENAI_BASE_URL_PASSWORD": "p@ss", "OPENAI_HEADER_X_API_KEY": "${X} stays"}
    built = with_own_secrets(model, values)
    assert built.base_url == "https://proxy.example.com/v1"
    assert built.headers == {
        "X-API-Key": "Bearer ${X} stays",
        "X-Team": "blue",
        "Authorization": "Basic bWU6cEBzcw==",
    }
    with pytest.raises(KeyError, match="OPENAI_"):
        with_own_secrets(model, {})


def test_a_value_too_short_to_be_hidden_is_told(project: Path) -> None:
    text = WITH_KEY.replace(f"Bearer {KEY}", "abc")
    notices = load(project, text + HELLO).notices
    assert "it has 3 characters" in notices[1]


@pytest.mark.parametrize(
    ("header", "value", "secret"),
    [
        ("Authorization", "x", True),
        ("x-api-key", "abc", True),
        ("X-Team", "blue", False),
        ("X-Team", "Bearer abcdefgh", True),
        ("X-Team", "sk-abcdefghijklmnop", True),
        ("X-Team", "aB3" * 12, True),
        ("X-Proxy-Token", "0123456789", True),
        ("X-Token", "short", False),
        ("X-Tokenizer", "0123456789", False),
        ("anthropic-beta", "prompt-caching-2024-07-31,pdfs-2024-09-25", False),
        ("HTTP-Referer", "https://example.com/a/long/Path/Of/2024", False),
        ("Authorization", "Bearer ${KEY}", False),
        ("Authorization", "", False),
    ],
)
def test_keys_are_told_from_settings(header: str, value: str, secret: bool) -> None:  # noqa: FBT001
    assert looks_secret(header, value) is secret


def test_names_of_secrets_are_fit_to_be_set() -> None:
    assert secret_name("9.lives", "header", "X--a") == "_9_LIVES_HEADER_X_A"
    assert len(secret_name("x" * 500, "header", "y")) <= 128


def test_an_address_with_a_password_that_is_no_address_is_told_without_it(project: Path) -> None:
    text = WITH_KEY.replace("https://", "ftp://")
    found = problem(project, text + HELLO)
    assert "'ftp://proxy.example.com/v1' is not an http or https address" in found


PIECES = st.text(st.characters(exclude_categories=["Cs"]), max_size=10) | st.sampled_from(
    ["https://", "me:", "s3cret-0123", "@", "[", "]", "a.b", "/", "?", "api_key=", "&", "${A}", "%"]
)
ADDRESSES = st.lists(PIECES, max_size=10).map("".join)


@given(ADDRESSES, st.dictionaries(PIECES, PIECES | st.none(), max_size=3))
def test_whatever_an_address_looks_like_it_is_kept_or_its_secrets_are_taken_out(
    url: str, headers: dict[str, str | None]
) -> None:
    fresh, taken = take_out("p", {"baseUrl": url, "headers": headers}, ("provider", "setting"))
    if not taken:
        assert fresh == {"baseUrl": url, "headers": headers}
    skill, found = take_out_endpoint({"endpoint": url}, ("experts", "a", "skills", "s"))
    if not found:
        assert skill == {"endpoint": url}
    for one in (*taken, *found):
        assert SECRET_NAME.fullmatch(one.name)
        assert one.value not in repr(one) or len(one.value) < 8


@given(st.text("abcdefghijklmnop0123456789-+/ %&=@:", min_size=8, max_size=30))
def test_a_password_and_a_key_of_an_address_are_never_in_what_is_left_of_it(value: str) -> None:
    text = quote(value, safe="")
    setting = {"baseUrl": f"https://me:{text}@a.example/v1"}
    fresh, taken = take_out("p", setting, ("provider", "setting"))
    assert text not in str(fresh["baseUrl"])
    assert [one.value for one in taken] == [value]
    skill = {"endpoint": f"https://a.example/sse?x=1&api_key={text}&y=2"}
    kept, found = take_out_endpoint(skill, ("experts", "a", "skills", "s"))
    assert kept["endpoint"] == "https://a.example/sse?x=1&api_key=${A_S_ENDPOINT_API_KEY}&y=2"
    assert [one.value for one in found] == [value]
