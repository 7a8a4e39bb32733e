"""Taste that no linter enforces: sizes, docstrings, boundaries, documents. Not behaviour."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("domain", "eventlog", "commands", "projections", "services", "gateway", "peritus")
CODE = (*PACKAGES, "tests", "benchmarks")

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FILE_BYTES_MAX = 1024 * 1024
ADR_LINES_MAX = 45
ARCHITECTURE_LINES_MAX = 200

BOUNDARIES: Mapping[str, str] = {
    "domain/redaction.py": "what cannot be searched for secrets is withheld as a whole",
    "domain/schemas.py": "no schema and no value may end a decision",
    "eventlog/recorders/hosted.py": "raised again by whoever started the thread",
    "gateway/problems.py": "an answer instead of a closed connection",
    "peritus/cli/main.py": "a line and an exit code instead of a traceback",
    "services/loop/attempts.py": "a provider's adapter must not end a worker",
    "services/loop/reconciler.py": "a run that cannot be looked at must not keep others waiting",
    "services/loop/service.py": "a command that breaks its handler becomes a dead letter",
    "services/sandbox/docker/opening.py": "an engine's refusal is told by its status alone",
    "services/sandbox/egress/broker.py": "a denial that cannot be shown must not end the proxy",
    "services/sandbox/egress/service.py": "the worker must get an answer",
    "services/sandbox/egress/visit.py": "a mistake of ours ends one connection and no other",
    "services/sandbox/packages/store.py": "told to whoever waits for the package",
    "services/sandbox/quotas.py": "raised again by whoever waits",
    "services/sandbox/rooms.py": "one room that does not close must not keep others open",
    "services/sandbox/service.py": "what cannot be reaped now is tried again",
    "services/sandbox/sites.py": "a host that breaks must not keep a room open",
    "services/secrets/cuts.py": "what cannot be searched for secrets is withheld as a whole",
    "services/tool/local.py": "the program's own functions raise what they like",
    "services/tool/mcp/beside.py": "raised again when the tasks beside it are over",
    "services/tool/mcp/connection.py": "raised again by whoever waits",
    "services/worker/discovery.py": "whoever asks what a skill offers must get an answer",
    "services/worker/executor.py": "a tool must not end a worker",
    "services/worker/hands.py": "work of one run must not end that of others",
    "services/worker/queue.py": "a delivery that cannot be handled comes again, and others go on",
}
"""The only modules that may catch everything and go on, and what for."""

MARKERS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")
UNFINISHED = re.compile(rf"(?:#|//|<!--)\s*(?:{'|'.join(MARKERS)})\b")
ADR_SECTIONS = ("Status", "Context", "Decision", "Consequences")


def modules(*folders: str) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), named(path))


def kept_files() -> list[Path]:
    """What git holds or would add; an exported copy without git has nothing to look at."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_modules_have_at_most_500_lines() -> None:
    sizes = {named(path): len(path.read_text().splitlines()) for path in modules(*CODE)}
    long = {name for name, size in sizes.items() if size > MODULE_LINES_MAX}
    assert long == set()


def test_functions_have_at_most_70_lines() -> None:
    long = [
        f"{named(path)}:{node.lineno} {node.name}"
        for path in modules(*CODE)
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_module_says_what_it_is_in_one_sentence() -> None:
    """The first line of the docstring begins as a sentence and ends as one."""
    bad: list[str] = []
    for path in modules(*CODE):
        if not path.read_text().strip():
            continue  # an empty package marker
        first = (ast.get_docstring(tree(path)) or "").partition("\n")[0]
        if not first or first[-1] not in ".:":
            bad.append(f"{named(path)}: {first!r}")
    assert bad == []


def broad_handlers(path: Path) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {kind.id if isinstance(kind, ast.Name) else None for kind in kinds}
        if node.type is None or names & {"Exception", "BaseException"}:
            yield node


def raises_again(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None


def test_everything_is_caught_only_at_the_named_boundaries() -> None:
    found = {
        named(path)
        for path in modules(*PACKAGES)
        for handler in broad_handlers(path)
        if not raises_again(handler)
    }
    assert found <= set(BOUNDARIES)


def test_every_named_boundary_is_still_one() -> None:
    for name in BOUNDARIES:
        assert list(broad_handlers(ROOT / name)), f"{name} catches no more"


def test_suppressions_of_broad_handlers_have_a_reason() -> None:
    bare = [
        f"{named(path)}:{number}"
        for path in modules(*PACKAGES)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "noqa: BLE001" in line and not re.search(r"noqa: BLE001 - \w", line)
    ]
    assert bare == []


def test_no_file_says_that_it_is_unfinished() -> None:
    suffixes = {".py", ".md", ".toml", ".sh", ".yml", ".conf"}
    marked = [
        f"{named(path)}:{number}"
        for path in kept_files()
        if path.suffix in suffixes or path.name in {"Makefile", "Dockerfile"}
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert marked == []


def test_no_kept_file_is_larger_than_a_mebibyte() -> None:
    assert [named(path) for path in kept_files() if path.stat().st_size > FILE_BYTES_MAX] == []


def test_readme_shows_both_commands() -> None:
    lines = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    assert "make demo" in lines
    assert "make test" in lines


def adrs() -> list[Path]:
    return sorted((ROOT / "docs/adr").glob("[0-9]*.md"))


@pytest.mark.parametrize("path", adrs(), ids=lambda path: path.stem)
def test_adr_has_its_sections_and_is_short(path: Path) -> None:
    text = path.read_text()
    assert re.match(rf"# {path.name[:4]}\. \S.*\n", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(ADR_SECTIONS)
    status = text.partition("## Status\n\n")[2].partition("\n")[0]
    assert re.fullmatch(r"Proposed|Accepted|Superseded by \d{4}", status)
    assert len(text.splitlines()) <= ADR_LINES_MAX


def test_adrs_are_numbered_without_a_gap_and_listed() -> None:
    numbers = [int(path.name[:4]) for path in adrs()]
    assert numbers == list(range(1, len(numbers) + 1))
    index = (ROOT / "docs/adr/README.md").read_text()
    assert [path.name for path in adrs() if f"({path.name})" not in index] == []


def test_architecture_stays_one_page() -> None:
    assert len((ROOT / "docs/architecture.md").read_text().splitlines()) <= ARCHITECTURE_LINES_MAX


def test_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(
        re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version) for version in versions[1:]
    )
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
