"""`peritus secrets`: keep, list, remove, check, and never show. Not where values are used."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cli_project import BOUND_S, DEFINITION, Outcome, Project, environment
from tests.support.sops_file import FOLDER, identity

CANARY = "canary-91/+abc"

NEEDS = (
    DEFINITION
    + """
[experts.helper.skills."@perstack/base"]
requiredEnv = ["A_TOKEN"]
"""
)


@pytest.fixture
def place(tmp_path: Path) -> Project:
    """A project in which nothing but this command ever runs: no server is started."""
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    made.write("perstack.toml", NEEDS)
    return made


def peritus(place: Project, *words: str, stdin: str = "", **more: str) -> Outcome:
    config = str(place.folder.parent / "config")
    env = environment(XDG_CONFIG_HOME=config, **more)
    for name in ("ANTHROPIC_API_KEY", "A_TOKEN"):
        if name not in more:
            env.pop(name, None)
    ended = subprocess.run(
        [sys.executable, "-m", "peritus", *words],
        cwd=place.folder,
        env=env,
        input=stdin.encode(),
        capture_output=True,
        timeout=BOUND_S,
        check=False,
    )
    return Outcome(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def test_a_secret_is_set_listed_found_replaced_and_removed(place: Project) -> None:
    first = peritus(place, "secrets", "set", "A_TOKEN", stdin=f"{CANARY}\n")
    (place.folder / "value").write_text(f"{CANARY}-2\n")
    second = peritus(place, "secrets", "set", "A_TOKEN", "--from-file", "value")
    listed = peritus(place, "secrets", "list", "--json")
    people = peritus(place, "secrets", "list", "--no-json")
    gone = peritus(place, "secrets", "rm", "A_TOKEN")
    again = peritus(place, "secrets", "rm", "A_TOKEN")
    empty = peritus(place, "secrets", "list")

    store = str(place.folder / ".peritus" / "secrets.age")
    assert [one.code for one in (first, second, listed, people, gone, empty)] == [0] * 6
    assert "version 1" in first.said
    assert "version 2" in second.said
    assert json.loads(listed.out) == {"name": "A_TOKEN", "source": store, "version": "2"}
    assert people.out == f"A_TOKEN  {store} (version 2)\n"
    assert again.code != 0
    assert "no secret 'A_TOKEN'" in again.said
    assert empty.out == ""
    every = (first, second, listed, people, gone, again, empty)
    assert not any(CANARY in one.out + one.said for one in every)


def test_the_check_says_what_is_missing_and_where_the_rest_is(place: Project) -> None:
    missing = peritus(place, "secrets", "check", "--json")
    peritus(place, "secrets", "set", "A_TOKEN", stdin=CANARY)
    place.write(".env", f"ANTHROPIC_API_KEY={CANARY}-key\n")
    (place.folder / ".env").chmod(0o644)
    found = peritus(place, "secrets", "check")
    short = peritus(place, "secrets", "check", "perstack.toml", A_TOKEN="abc")

    assert missing.code == 1
    lines = [json.loads(line) for line in missing.out.splitlines()]
    assert [(line["name"], line["verdict"]) for line in lines] == [
        ("ANTHROPIC_API_KEY", "broken"),
        ("A_TOKEN", "broken"),
    ]
    assert "not found in the environment, " in lines[0]["detail"]
    assert found.code == 0
    assert "· ANTHROPIC_API_KEY" in found.out
    assert "everybody on this machine can read" in found.out
    assert "✓ A_TOKEN" in found.out
    assert "secrets.age (version 1)" in found.out
    assert short.code == 1
    assert "it has 3 characters" in short.out
    assert CANARY not in found.out + found.said + short.out


def test_a_sops_file_is_checked_and_listed_like_any_place(place: Project) -> None:
    shutil.copy(FOLDER / "secrets.json", place.folder / "team.json")
    (place.folder / "team.json").chmod(0o644)
    use = {"PERITUS_SECRETS_SOPS": "team.json", "SOPS_AGE_KEY": identity()}
    listed = peritus(place, "secrets", "list", "--json", **use)
    checked = peritus(place, "secrets", "check", "--json", **use)
    locked = peritus(place, "secrets", "check", **(use | {"SOPS_AGE_KEY": identity("other.txt")}))

    names = [json.loads(line) for line in listed.out.splitlines()]
    assert [(one["name"], one["source"]) for one in names] == [
        ("A_TOKEN", str(place.folder / "team.json")),
        ("NUMBER", str(place.folder / "team.json")),
    ]
    found = {line["name"]: line for line in map(json.loads, checked.out.splitlines())}
    assert found["A_TOKEN"]["verdict"] == "ok"
    assert "team.json" in found["A_TOKEN"]["detail"]
    assert locked.code == 1
    assert "no identity opens it" in locked.out
    every = (listed, checked, locked)
    assert not any("json-value" in one.out + one.said for one in every)
    assert not any("AGE-SECRET-KEY" in one.out + one.said for one in every)


def test_a_value_that_could_not_be_hidden_is_refused_unseen(place: Project) -> None:
    refused = peritus(place, "secrets", "set", "A_TOKEN", stdin="abc12\n")
    named = peritus(place, "secrets", "set", "A-TOKEN", stdin=CANARY)

    assert refused.code != 0
    assert "shorter than 6" in refused.said
    assert "abc12" not in refused.said
    assert named.code != 0
    assert "cannot name a secret" in named.said
    assert not (place.folder / ".peritus").exists()


def test_one_is_told_when_another_place_comes_first(place: Project) -> None:
    place.write(".env", "A_TOKEN=from-the-file\n")
    kept = peritus(place, "secrets", "set", "A_TOKEN", stdin=CANARY)
    assert kept.code == 0
    assert "it does not count yet" in kept.said
    assert str(place.folder / ".env") in kept.said


def test_a_prompt_shows_nothing_of_what_is_typed(place: Project) -> None:
    config = str(place.folder.parent / "config")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place.folder)
        os.environ["XDG_CONFIG_HOME"] = config
        os.execv(sys.executable, [sys.executable, "-m", "peritus", "secrets", "set", "A_TOKEN"])
    said = b""
    try:
        for prompt in (b"Value of A_TOKEN: ", b"Again: "):
            while prompt not in said:
                ready, _, _ = select.select([terminal], [], [], BOUND_S)
                assert ready, said
                said += os.read(terminal, 4096)
            os.write(terminal, f"{CANARY}\n".encode())
        while select.select([terminal], [], [], BOUND_S)[0]:
            try:
                said += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert CANARY.encode() not in said
    assert "A_TOKEN" in peritus(place, "secrets", "list").out


def test_a_damaged_store_is_an_error_without_a_traceback(place: Project) -> None:
    peritus(place, "secrets", "set", "A_TOKEN", stdin=CANARY)
    (place.folder / ".peritus" / "secrets.age").write_bytes(b"nonsense")
    listed = peritus(place, "secrets", "list")
    checked = peritus(place, "secrets", "check")
    assert listed.code != 0
    assert "is damaged" in listed.said
    assert "Traceback" not in listed.said
    assert checked.code == 1
