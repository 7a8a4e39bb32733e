"""What a gateway's settings come to: its own key, and which settings go together."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from domain.errors import Rejected
from eventlog.memory import MemoryServer
from peritus.guard import KEY_FILE, check_guard, guard_of, local_key
from peritus.logs import REDACTIONS
from peritus.settings import Settings, load_settings


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "state" / KEY_FILE
    key = local_key(file)
    assert len(key) == 43  # 256 bits
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert local_key(file) == key
    assert [one.name for one in file.parent.iterdir()] == [KEY_FILE]


def test_gateways_that_begin_at_once_have_one_key(tmp_path: Path) -> None:
    file = tmp_path / KEY_FILE
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(local_key, [file] * 32))
    assert len(keys) == 1
    assert [one.name for one in tmp_path.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_that_others_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    file = tmp_path / KEY_FILE
    local_key(file)
    file.chmod(mode)
    with pytest.raises(Rejected, match="others"):
        local_key(file)


def test_what_is_no_file_of_a_key_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "empty").touch(0o600)
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("empty", "folder", "link"):
        with pytest.raises(Rejected, match=name):
            local_key(tmp_path / name)


def test_a_gateway_makes_a_key_only_where_it_has_no_token(tmp_path: Path) -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    own = guard_of(Settings(), tmp_path, backbone)
    assert own.key_file == tmp_path / KEY_FILE
    assert own.token == (tmp_path / KEY_FILE).read_text().strip()
    assert own.auth is not None
    assert own.token is not None
    assert own.token not in REDACTIONS.redactor().text(f"the key is {own.token}")
    given = Settings.model_validate({"gateway_token": "given"})
    assert guard_of(given, tmp_path / "other", backbone).token == "given"
    bare = guard_of(Settings(gateway_auth="none"), tmp_path / "other", backbone)
    assert (bare.token, bare.auth, bare.key_file) == (None, None, None)
    assert not (tmp_path / "other").exists()


def test_a_gateway_has_the_rates_origins_and_issuer_of_its_settings(tmp_path: Path) -> None:
    backbone = MemoryServer(now_ms=lambda: 0).backbone()
    settings = Settings(
        gateway_rate=120,
        gateway_cors_origins=("https://app.example.com", "http://localhost:3000"),
        gateway_jwt_issuer="https://login.example.com",
        gateway_jwt_audience="peritus",
    )
    auth = guard_of(settings, tmp_path, backbone).auth
    assert auth is not None
    assert auth.rates is not None
    assert auth.rates.callers.per_minute == 120
    assert auth.origins == {"https://app.example.com", "http://localhost:3000"}
    assert auth.issuer is not None
    plain = guard_of(Settings(gateway_rate=0), tmp_path, backbone).auth
    assert plain is not None
    assert (plain.rates, plain.issuer, plain.origins) == (None, None, frozenset())


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"gateway_auth": "none", "gateway_host": "0.0.0.0"}, "PERITUS_GATEWAY_AUTH"),
        ({"gateway_auth": "none", "gateway_token": "x"}, "PERITUS_GATEWAY_TOKEN"),
        ({"gateway_jwt_issuer": "https://a.example"}, "PERITUS_GATEWAY_JWT_AUDIENCE"),
        ({"gateway_jwt_audience": "a"}, "PERITUS_GATEWAY_JWT_ISSUER"),
        (
            {"gateway_jwt_issuer": "http://a.example", "gateway_jwt_audience": "a"},
            "PERITUS_GATEWAY_JWT_ISSUER",
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, str], names: str) -> None:
    with pytest.raises(Rejected, match=names):
        check_guard(Settings.model_validate(given))


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://*.example.com",
        "app.example.com",
        "https://app.example.com/",
        "null",
        "https://",
    ],
)
def test_an_origin_is_exact(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("PERITUS_GATEWAY_CORS_ORIGINS", f"https://good.example, {origin}")
    with pytest.raises(Rejected, match="PERITUS_GATEWAY_CORS_ORIGINS"):
        load_settings()
