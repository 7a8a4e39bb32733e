"""Documents that would go stale: commands, verbs, links, settings, code. Not their style."""

import ast
import re
from pathlib import Path

import pytest
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from domain.events import EVENT_TYPES
from domain.limits import Limits
from peritus.cli.exits import MEANINGS
from peritus.cli.main import build
from peritus.definitions import load_definition
from peritus.serve import SERVICES
from peritus.settings import PREFIX, Settings
from services.loop.models.registry import PROVIDERS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
NOT_SETTINGS = frozenset({"PERITUS_PROJECT", "PERITUS_VIEWS_PASSWORD"})
"""Variables of the compose files alone."""

FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(language: str) -> list[tuple[str, str]]:
    """Every code block of a language, and where it is."""
    return [
        (f"{named(page)}-{index}", code)
        for page in PAGES
        for index, (found, code) in enumerate(FENCE.findall(page.read_text()))
        if found == language
    ]


def commands(group: object = None, before: str = "") -> list[tuple[str, TyperCommand]]:
    """Every command that does something, by its full name."""
    group = get_command(build()) if group is None else group
    assert isinstance(group, TyperGroup)
    found: list[tuple[str, TyperCommand]] = []
    for name, command in group.commands.items():
        if isinstance(command, TyperCommand):
            found.append((before + name, command))
        else:
            found.extend(commands(command, f"{before}{name} "))
    return found


def flags(command: TyperCommand) -> set[str]:
    return {
        flag
        for parameter in command.params
        if isinstance(parameter, TyperOption)
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--") and flag != "--help"
    }


def section_of(name: str) -> str:
    """What docs/cli.md says of a command; subcommands share the section of their group."""
    heading = f"## `peritus {name.partition(' ')[0]}`\n"
    found = re.search(rf"^{heading}(.*?)(?=^## )", read("docs/cli.md"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cli.md has no section on `peritus {name}`"
    return found.group(1)


@pytest.mark.parametrize(("name", "command"), commands(), ids=str)
def test_command_is_documented_and_has_help(name: str, command: TyperCommand) -> None:
    assert command.help, f"`peritus {name}` has no help"
    text = section_of(name)
    assert f"peritus {name}" in text
    assert {flag for flag in flags(command) if f"`{flag}" not in text} == set()


@pytest.mark.parametrize(("name", "command"), commands(), ids=str)
def test_every_parameter_of_a_command_has_help(name: str, command: TyperCommand) -> None:
    del name
    silent = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, (TyperOption, TyperArgument)) and not parameter.help
    ]
    assert silent == []


def test_no_command_is_documented_that_does_not_exist() -> None:
    known = {name.split()[0] for name, _ in commands()}
    shown = set(re.findall(r"^ {4}peritus ([a-z]+)", read("docs/cli.md"), re.MULTILINE))
    headed = set(re.findall(r"^## `peritus (\w+)`", read("docs/cli.md"), re.MULTILINE))
    assert shown <= known
    assert headed == known


def test_exit_codes_in_the_docs_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", read("docs/cli.md"), re.MULTILINE)
    assert {int(code): words for code, words in rows} == {
        code.value: words for code, words in MEANINGS.items()
    }


def test_every_make_target_in_the_docs_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named_in = {
        target
        for page in PAGES
        for target in re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named_in >= {"demo", "test"}
    assert named_in <= targets


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_internal_links_resolve(page: Path) -> None:
    broken: list[str] = []
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(link)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            if anchor not in {slug(heading) for heading in headings}:
                broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_named_in_the_docs_exist(page: Path) -> None:
    """Paths in backquotes that begin with a folder of ours and look like a file."""
    folders = "domain|eventlog|commands|projections|services|gateway|peritus|tests|docs|examples"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+\.(?:py|md|toml|txt|conf|sh))`", page.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("place", "code"), blocks("python"), ids=lambda one: str(one)[:40])
def test_python_in_the_docs_compiles_and_imports_what_exists(place: str, code: str) -> None:
    parsed = ast.parse(code, place)
    compile(parsed, place, "exec")
    imports: list[ast.stmt] = [
        node for node in parsed.body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    exec(compile(ast.Module(imports, []), place, "exec"), {})


@pytest.mark.parametrize(("place", "code"), blocks("toml"), ids=lambda one: str(one)[:40])
def test_definitions_in_the_docs_load_without_a_notice(
    place: str, code: str, tmp_path: Path
) -> None:
    file = tmp_path / "perstack.toml"
    file.write_text(code)
    notices = [text for text in load_definition(file).notices if "`peritus lock`" not in text]
    assert notices == [], place  # a page has no lock beside it


def test_every_event_type_is_in_the_docs() -> None:
    shown = re.findall(r"^\| `([a-z_.]+\.v\d+)` \|", read("docs/events.md"), re.MULTILINE)
    assert sorted(shown) == sorted(EVENT_TYPES)


def test_every_provider_is_in_the_docs_with_its_key() -> None:
    text = read("docs/definitions.md")
    assert [name for name in PROVIDERS if f"| `{name}`" not in text] == []
    assert [one.key for one in PROVIDERS.values() if one.key not in text] == []
    assert [
        one.key for one in PROVIDERS.values() if f"\n{one.key}=" not in read(".env.example")
    ] == []


def test_every_limit_in_the_docs_has_the_default_of_the_code() -> None:
    row = re.compile(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| ([^|]+) \| ", re.MULTILINE)
    rows = row.findall(read("docs/architecture.md"))
    shown: dict[str, str] = {}
    for names, values in rows:
        keys = re.findall(r"`([a-z_]+)`", names)
        parts = re.split(r", (?=\d)", values) if len(keys) > 1 else [values]
        shown.update(zip(keys, parts, strict=True))
    known = {
        name: "none" if field.default is None else f"{field.default:,}"
        for name, field in Limits.model_fields.items()
    }
    assert {name: value for name, value in shown.items() if name in known} == known


def test_every_variable_named_anywhere_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    files = [
        *PAGES,
        *(ROOT / name for name in ("docker-compose.yml", "Dockerfile", ".env.example")),
        ROOT / "docs/deploy/postgres.yml",
    ]
    for file in files:
        used = set(re.findall(r"\bPERITUS_[A-Z_]+[A-Z]", file.read_text()))
        assert used <= known, named(file)


def test_every_setting_is_in_the_example_file() -> None:
    text = read(".env.example")
    names = [PREFIX + name.upper() for name in Settings.model_fields]
    assert [name for name in names if not re.search(rf"^(# )?{name}=", text, re.MULTILINE)] == []


def composed(file: str) -> list[tuple[str, str]]:
    """The services of a compose file, each with its text."""
    text = read(file).partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    found = re.split(r"^  (\w+):$", text, flags=re.MULTILINE)[1:]
    return list(zip(found[::2], found[1::2], strict=True))


def test_compose_file_serves_each_service_once() -> None:
    served = re.findall(r'command: \["serve", "(\w+)"\]', read("docker-compose.yml"))
    assert sorted(served) == sorted(SERVICES)


def test_postgres_is_laid_over_the_services_that_have_views() -> None:
    with_views = {name for name, text in composed("docker-compose.yml") if "views:/views" in text}
    laid_over = {name for name, text in composed("docs/deploy/postgres.yml") if "*views" in text}
    assert laid_over == with_views != set()


def test_image_copies_every_package() -> None:
    wheel = read("pyproject.toml").partition("[tool.hatch.build.targets.wheel]")[2]
    packages = re.findall(r'"(\w+)"', wheel.partition("]")[0])
    copied = re.findall(r"^COPY (\w+) \1$", read("Dockerfile"), re.MULTILINE)
    assert sorted(copied) == sorted(packages)
    assert [name for name in packages if f"\n!{name}\n" not in read(".dockerignore")] == []


def test_every_figure_of_the_readme_is_measured() -> None:
    table = read("README.md").partition("## What is measured")[2].partition("\n## ")[0]
    named_in = re.findall(r"`(\w+_\w+)`", table)
    code = read("benchmarks/figures.py") + read("benchmarks/__main__.py")
    assert named_in
    assert [name for name in named_in if f'"{name}"' not in code] == []
