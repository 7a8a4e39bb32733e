"""Where secrets come from: each place, the order, rotation, permissions (C15). Not their use."""

import importlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring

from domain.errors import Rejected, Unavailable
from domain.ids import RunRef
from domain.secrets import SecretAccess, SecretRef, SecretValue
from services.secrets import SecretsConfig, open_source
from services.secrets.age import new_key
from services.secrets.desktop import Keyring
from services.secrets.identity import default_identity_path, need_identity, read_identity
from services.secrets.plain import EnvFile, Environment, SecretFolder, folders
from services.secrets.redactions import Redactions
from services.secrets.store import VERSIONS_MAX, AgeStore

pytestmark = pytest.mark.anyio

NAME = SecretRef(name="A_TOKEN")
CANARY = "canary-4f7a/+xyz"


def shown(value: SecretValue | None) -> tuple[str, str, str] | None:
    return None if value is None else (value.reveal(), value.ref.version, value.source)


@pytest.fixture
def store(tmp_path: Path) -> AgeStore:
    return AgeStore(tmp_path / "state" / "secrets.age", tmp_path / "config" / "identity.age")


async def test_the_first_place_that_has_a_name_counts(tmp_path: Path, store: AgeStore) -> None:
    (tmp_path / ".env").write_text("TWO=second-env-file\nTHREE=third-env-file\nFOUR=\n")
    (tmp_path / "run").mkdir(mode=0o700)
    for name in ("THREE", "FOUR"):
        (tmp_path / "run" / name).write_text(f"{name.lower()}-in-folder\n")
    store.set("FOUR", "four-in-store")
    store.set("FIVE", "five-in-store")
    config = SecretsConfig(
        env_files=(str(tmp_path / ".env"), str(tmp_path / "none")),
        folders=(str(tmp_path / "run"), str(tmp_path / "gone")),
        store=str(tmp_path / "state" / "secrets.age"),
        identity=str(tmp_path / "config" / "identity.age"),
    )
    again = SecretsConfig.model_validate_json(config.model_dump_json())
    source = open_source(again, variables={"ONE": "one-variable", "TWO": ""})
    names = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX")
    found = [shown(await source.resolve(SecretRef(name=name))) for name in names]
    assert found == [
        ("one-variable", "", "the environment"),
        ("second-env-file", "", str(tmp_path / ".env")),
        ("third-env-file", "", str(tmp_path / ".env")),
        ("four-in-folder", "", str(tmp_path / "run" / "FOUR")),
        ("five-in-store", "1", str(tmp_path / "state" / "secrets.age")),
        None,
    ]
    assert [(place.name, Path(place.source).name) for place in await source.names()] == [
        ("FIVE", "secrets.age"),
        ("FOUR", "FOUR"),
        ("FOUR", "secrets.age"),
        ("THREE", ".env"),
        ("THREE", "THREE"),
        ("TWO", ".env"),
    ]
    assert not {"TWO", "THREE"} & os.environ.keys()


async def test_a_value_that_changes_counts_at_once_and_the_old_one_stays_hidden(
    tmp_path: Path, store: AgeStore
) -> None:
    redactions = Redactions()
    file = tmp_path / ".env"
    config = SecretsConfig(
        environment=False, env_files=(str(file),), store=store.label, identity=str(identity(store))
    )
    source = open_source(config, redactions=redactions)
    store.set("A_TOKEN", "first-value")
    assert shown(await source.resolve(NAME)) == ("first-value", "1", store.label)
    store.set("A_TOKEN", "second-value")
    assert shown(await source.resolve(NAME)) == ("second-value", "2", store.label)
    pinned = await source.resolve(SecretRef(name="A_TOKEN", version="1"))
    assert shown(pinned) == ("first-value", "1", store.label)
    file.write_text("A_TOKEN=third-value\n")
    assert shown(await source.resolve(NAME)) == ("third-value", "", str(file))
    text = "first-value second-value third-value"
    assert redactions.redactor().text(text) == " ".join(["[secret:A_TOKEN]"] * 3)


def identity(store: AgeStore) -> Path:
    return Path(store.label).parent.parent / "config" / "identity.age"


async def test_every_use_is_heard_and_no_value_is_told(store: AgeStore) -> None:
    heard: list[SecretAccess] = []
    store.set("A_TOKEN", CANARY)
    config = SecretsConfig(environment=False, store=store.label, identity=str(identity(store)))
    source = open_source(config, audit=heard.append)
    await source.resolve(NAME, purpose="egress to a.example", run=RunRef("acme", "j", "r"))
    await source.resolve(SecretRef(name="NONE"), purpose="model key")
    source.find(NAME)
    assert [(one.name, one.version, one.source, one.purpose, one.run) for one in heard] == [
        ("A_TOKEN", "1", store.label, "egress to a.example", "r"),
        ("NONE", "", "", "model key", ""),
    ]
    assert CANARY not in "".join(one.model_dump_json() for one in heard)


async def test_a_process_learns_what_is_declared_before_it_is_used(
    tmp_path: Path, store: AgeStore
) -> None:
    (tmp_path / ".env").write_text("A_TOKEN=declared-value\nMODE=not-declared\n")
    store.set("B_TOKEN", "value-in-store")
    redactions = Redactions()
    config = SecretsConfig(
        env_files=(str(tmp_path / ".env"), str(tmp_path)),
        store=store.label,
        identity=str(identity(store)),
        keyring=True,  # is not asked: a person might have to unlock it
    )
    source = open_source(config, redactions=redactions, variables={"A_TOKEN": "another-value"})
    troubles = source.learn(["A_TOKEN"])
    assert len(troubles) == 1
    assert "it is no file" in troubles[0]
    text = "declared-value another-value value-in-store not-declared"
    assert redactions.redactor().text(text) == (
        "[secret:A_TOKEN] [secret:A_TOKEN] [secret:B_TOKEN] not-declared"
    )


def test_the_store_is_unreadable_without_its_identity(store: AgeStore, tmp_path: Path) -> None:
    store.set("A_TOKEN", CANARY)
    store.set("B_TOKEN", CANARY[::-1])
    data = Path(store.label).read_bytes()
    assert not any(one in data for one in (CANARY.encode(), b"A_TOKEN", b"B_TOKEN"))
    for path in (Path(store.label), identity(store)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = tmp_path / "other"
    need_identity(other)
    with pytest.raises(Rejected, match="not encrypted for") as caught:
        AgeStore(Path(store.label), other).find(NAME)
    assert CANARY not in str(caught.value)
    with pytest.raises(Rejected, match="which is gone"):
        AgeStore(Path(store.label), tmp_path / "none").find(NAME)
    Path(store.label).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Rejected, match="damaged"):
        store.find(NAME)


def test_an_identity_that_others_can_read_is_refused(store: AgeStore) -> None:
    store.set("A_TOKEN", CANARY)
    identity(store).chmod(0o640)
    with pytest.raises(Rejected, match="chmod 600"):
        store.find(NAME)
    identity(store).chmod(0o600)
    identity(store).write_text("# nothing\n")
    with pytest.raises(Rejected, match="holds no age identity"):
        store.find(NAME)
    identity(store).write_text("AGE-SECRET-KEY-1NONSENSE\n")
    with pytest.raises(Rejected, match="holds no age identity"):
        read_identity(identity(store))


def test_an_identity_of_age_keygen_is_understood_and_kept(tmp_path: Path) -> None:
    key = new_key()
    path = tmp_path / "keys.txt"
    path.write_text(f"# created: today\n# public key: {key.recipient}\n{key.identity}\n")
    path.chmod(0o600)
    assert need_identity(path) == key
    assert key.identity not in repr(key)


def test_versions_count_up_are_bounded_and_never_come_again(store: AgeStore) -> None:
    for number in range(VERSIONS_MAX + 2):
        assert store.set("A_TOKEN", f"value-{number:03}") == str(number + 1)
    assert store.find(SecretRef(name="A_TOKEN", version="2")) is None
    assert shown(store.find(SecretRef(name="A_TOKEN", version="3"))) == (
        "value-002",
        "3",
        store.label,
    )
    assert store.remove("A_TOKEN")
    assert not store.remove("A_TOKEN")
    assert store.find(NAME) is None
    assert store.places() == []
    assert store.set("A_TOKEN", "value-new") == str(VERSIONS_MAX + 3)


def test_processes_that_set_secrets_at_once_lose_none(store: AgeStore) -> None:
    code = (
        "import sys; from pathlib import Path; from services.secrets.store import AgeStore\n"
        "store = AgeStore(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "for n in range(5): store.set(f'N{sys.argv[3]}_{n}', 'a-value')"
    )
    words = [sys.executable, "-c", code, store.label, str(identity(store))]
    started = [subprocess.Popen([*words, str(number)]) for number in range(3)]
    assert [one.wait(60) for one in started] == [0, 0, 0]
    assert len(store.places()) == 15
    left = {path.name for path in Path(store.label).parent.iterdir()}
    assert left == {"secrets.age", "secrets.age.lock"}
    assert {path.name for path in identity(store).parent.iterdir()} == {"identity.age"}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("A_TOKEN", "abc12", "5 characters"),
        ("A-TOKEN", CANARY, "cannot name a secret"),
        ("../TOKEN", CANARY, "cannot name a secret"),
        ("A_TOKEN", "zero\0byte", "zero byte"),
        ("A_TOKEN", "x" * 70_000, "bytes"),
    ],
)
def test_what_cannot_be_kept_is_refused(store: AgeStore, name: str, value: str, why: str) -> None:
    with pytest.raises(Rejected, match=why) as caught:
        store.set(name, value)
    assert value not in str(caught.value)
    assert not Path(store.label).exists()


def test_a_file_of_a_folder_is_a_secret_and_nothing_outside_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "A_TOKEN").write_text("outside")
    place = SecretFolder(folder)
    assert place.find(NAME) is None
    assert place.find(SecretRef(name="../A_TOKEN")) is None
    (folder / "A_TOKEN").write_text("two\nlines\r\n")
    (folder / "not.a.name").write_text("value")
    assert shown(place.find(NAME)) == ("two\nlines", "", str(folder / "A_TOKEN"))
    assert [one.name for one in place.places()] == ["A_TOKEN"]
    (folder / "A_TOKEN").chmod(0o604)
    assert "everybody on this machine can read" in place.problems("A_TOKEN")[0]
    (folder / "A_TOKEN").chmod(0o606)
    with pytest.raises(Rejected, match="everybody can write"):
        place.find(NAME)
    (folder / "A_TOKEN").unlink()
    os.mkfifo(folder / "A_TOKEN")
    with pytest.raises(Rejected, match="it is no file"):  # and nobody waits for a writer
        place.find(NAME)
    assert folders([folder], {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == [
        folder,
        Path("/run/credentials/x"),
    ]


def test_an_env_file_that_others_can_read_is_told_of(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    (tmp_path / ".env").write_text(f"A_TOKEN='{CANARY}'\n")
    (tmp_path / ".env").chmod(0o600)
    assert file.problems("A_TOKEN") == []
    (tmp_path / ".env").chmod(0o644)
    assert "can read" in file.problems("A_TOKEN")[0]
    assert file.find(SecretRef(name="A_TOKEN", version="1")) is None
    assert Environment({"A_TOKEN": CANARY}).find(SecretRef(name="A_TOKEN", version="1")) is None
    (tmp_path / ".env").write_bytes(b"\xff\xfe=1")
    with pytest.raises(Rejected, match="not UTF-8"):
        file.find(NAME)


@pytest.fixture
def backend(tmp_path: Path) -> Generator[KeyringBackend]:
    """A real backend that needs no desktop."""
    before = keyring.get_keyring()
    made: Any = importlib.import_module("keyrings.alt.file").PlaintextKeyring  # has no types
    chosen: Any = made()
    chosen.file_path = str(tmp_path / "keyring.cfg")
    keyring.set_keyring(chosen)
    yield chosen
    keyring.set_keyring(before)


async def test_the_keyring_is_asked_last_and_can_be_written(
    backend: KeyringBackend, store: AgeStore
) -> None:
    place = Keyring()
    place.set("A_TOKEN", CANARY)
    assert backend.get_password("peritus", "A_TOKEN") == CANARY
    config = SecretsConfig(
        environment=False, store=store.label, identity=str(identity(store)), keyring=True
    )
    source = open_source(config)
    assert shown(await source.resolve(NAME)) == (CANARY, "", "the keyring")
    assert await source.resolve(SecretRef(name="A_TOKEN", version="1")) is None
    store.set("A_TOKEN", "in-the-store")
    assert shown(await source.resolve(NAME)) == ("in-the-store", "1", store.label)
    assert place.remove("A_TOKEN")
    assert not place.remove("A_TOKEN")
    assert place.find(NAME) is None


def test_a_machine_without_a_keyring_says_so(backend: KeyringBackend) -> None:
    del backend  # puts the one before back
    none: Any = NoKeyring
    keyring.set_keyring(none())
    with pytest.raises(Unavailable, match="no keyring on this machine"):
        Keyring().find(NAME)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """A cold `peritus run` with its key in the environment pays for none of it."""
    code = (
        "import sys, json, peritus.keys\n"
        "assert peritus.keys.Keys((), {'K': 'v-in-env'})('K') == 'v-in-env'\n"
        "heavy = {'keyring', 'pyrage', 'cryptography'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(found.stdout) == []


def test_the_identity_lies_outside_every_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert default_identity_path() == Path("/somewhere/peritus/identity.age")
