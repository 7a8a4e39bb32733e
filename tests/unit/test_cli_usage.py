"""What does not go together on the command lines for people is refused at once. Not the runs."""

from pathlib import Path

import pytest

from peritus.cli.main import main


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a project: whatever goes further than usage says that there is none."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("answer one a b c", "quote the answer: peritus answer one a 'b c'"),
        ("answer one", "say what to answer"),
        ("answer one --accept --decline", "exclude each other"),
        ("answer one q1 2 --decline", "goes without an answer"),
        ("approve one c1-0 --all", "--all goes with no APPROVAL"),
        ("approve one --all --edit {}", "--all goes with no APPROVAL"),
        ("approve one --edit {} --edit-file x", "one of --edit and --edit-file"),
        ("approve one --remember --remember-exact", "one of --edit and --edit-file"),
        ("approve one --edit {", "the arguments are not JSON"),
        ("approve one --edit []", "must be a JSON object"),
        ("approve one --edit-file none.json", "cannot be read"),
        ("policy one add", "peritus policy RUN add allow|ask|deny"),
        ("policy one add perhaps", "perhaps"),
        ("policy one show deny", "peritus policy RUN add allow|ask|deny"),
        ("policy one show --tool exec", "are for add, not for show"),
        ("policy one clear --reason x", "are for add, not for clear"),
        ("policy one add deny --arg command", "is not PATH=PATTERN"),
        ("policy one add deny --arg a=b --arg a=c", "two patterns for 'a'"),
        ("run clerk", "Missing argument 'QUERY'"),
        ("run clerk Go --filter nonsense", "no event is named 'nonsense'"),
        ("run clerk Go --filter run --no-json", "leave out --no-json"),
        ("run clerk Go -i", "--continue"),
        ("run clerk Go --budget 2.5.0", "US dollars"),
        ("run clerk Go --soft-budget -1", "US dollars"),
        ("run clerk Go --max-time 90", "text with units"),
        ("run clerk Go --continue-job a --job b", "leave out --job"),
        ("run clerk --input {} --continue", "--input is for a new run"),
        ("run clerk --input [] ", "must be a JSON object"),
        ("run clerk --input {", "not JSON"),
        ("log --step x", "none of 5"),
        ("log --filter x", "no expression such as"),
        ("log --type x", "no event is named 'x'"),
        ("log --take -1", "--take"),
        ("steer one", "Missing argument"),
    ],
)
def test_bad_usage_is_refused_with_what_to_change(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        "waiting",
        "tree one",
        "answer one text",
        "approve one",
        "deny one",
        "steer one text",
        "pause one",
        "policy one",
        "log",
        "resume one --detach",
    ],
)
def test_without_a_project_the_command_says_so(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert "perstack.toml" in capsys.readouterr().err
