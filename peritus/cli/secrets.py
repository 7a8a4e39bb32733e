"""`peritus secrets`: keep, list, remove and check secrets. Never shows a value."""

import getpass
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import orjson
import typer

from domain.errors import PeritusError, Rejected, Unavailable
from domain.secrets import SECRET_BYTES_MAX, SecretRef, unfit
from peritus.cli import options
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.definitions import load_definition
from peritus.keys import Need, env_files, needs_of, project_keys, project_secrets
from peritus.logs import REDACTIONS, log_to_stderr
from peritus.project import Project, find_project, need_config, operator_of
from peritus.settings import Settings, load_settings
from services.secrets.desktop import Keyring
from services.secrets.port import SecretProvider
from services.secrets.source import Secrets
from services.secrets.store import AgeStore, check_secret

app = typer.Typer(
    no_args_is_help=True, help="Keep secrets by name, and check those that are needed."
)

MARKS = {"ok": "✓", "note": "·", "broken": "✗"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the secret.")]
InKeyring = Annotated[
    bool, typer.Option("--keyring", help="In the keyring of the desktop, not in the store.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """A project and the settings it is looked at with; nothing of a server."""

    settings: Settings
    project: Project


@app.command("set")
def set_secret(
    name: Name,
    from_file: Annotated[
        Path | None,
        typer.Option(help="Take the value from a file; `-`: from standard input.", metavar="FILE"),
    ] = None,
    *,
    keyring: InKeyring = False,
    config: options.Config = None,
) -> None:
    """Keep a value: a new version of that name, which counts from now on.

    It is asked for without being shown, or read from standard input when that is no terminal. One
    newline at its end is no part of it.
    """
    place = _here(config)
    check_secret(name, "a value that is fit")  # before anybody types one
    value = _value(name, from_file)
    REDACTIONS.add(name, value)
    to = _store(place, keyring=keyring)
    version = to.set(name, value)
    notice(f"{name} is kept in {to.label}" + (f", version {version}" if version else ""))
    counts = _secrets(place, keyring=keyring).find(SecretRef(name=name))
    if counts is not None and counts.source != to.label:
        notice(f"it does not count yet: {counts.source} has {name}, too, and comes first")


@app.command("list")
def list_secrets(config: options.Config = None, as_json: options.Json = None) -> None:
    """List the names of secrets and where they are, the place that counts first.

    Variables of the environment and the keyring of the desktop are not listed.
    """
    place, as_json = _here(config), options.wants_json(as_json)
    found = _secrets(place).names_now()
    if as_json:
        lines = [one.model_dump_json() for one in found]
    else:
        width = max((len(one.name) for one in found), default=0)
        lines = [
            f"{one.name:<{width}}  {one.source}"
            + (f" (version {one.version})" if one.version else "")
            for one in found
        ]
        if not found:
            notice("no secrets")
    run_async(Out().write("".join(f"{line}\n" for line in lines)))


@app.command("rm")
def remove(name: Name, *, keyring: InKeyring = False, config: options.Config = None) -> None:
    """Forget a secret that was set, in all its versions."""
    place = _here(config)
    store = _store(place, keyring=keyring)
    if not store.remove(name):
        raise Rejected("no_such_secret", f"{store.label} has no secret {name!r}")
    notice(f"{name} is removed from {store.label}")


@app.command("check", epilog="Exit codes: 0 when all is there, 1 when something is not.")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A definition; by default the project's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value a line.")] = False,  # noqa: FBT002
    *,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Look in the keyring of the desktop, too.")
    ] = False,
) -> None:
    """Check the secrets that a definition needs: where each is found, and what is wrong with it."""
    place = _here(file)
    definition = load_definition(
        need_config(place.project),
        lenient=True,
        variables_open=True,
        locked=False,  # what servers offer says nothing of secrets
        operator=operator_of(place.settings),
    ).definition
    secrets = _secrets(place, keyring=keyring)
    found = [_checked(secrets, need) for need in needs_of(definition)]
    if not found:
        notice("the definition needs no secrets")
    lines = [
        orjson.dumps(asdict(one)).decode()
        if as_json
        else f"{MARKS[one.verdict]} {one.name}  {one.detail}"
        for one in found
    ]
    run_async(Out().write("".join(f"{line}\n" for line in lines)))
    broken = any(one.verdict == "broken" for one in found)
    raise typer.Exit(Exit.WRONG if broken else Exit.COMPLETED)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out about one need. `note`: worth knowing, nothing is broken."""

    name: str
    verdict: str
    source: str
    version: str
    needed_by: str
    detail: str


def _checked(secrets: Secrets, need: Need) -> Checked:
    try:
        value = secrets.find(SecretRef(name=need.name))
    except PeritusError as error:
        return Checked(need.name, "broken", "", "", need.who, f"for {need.who}: {error}")
    if value is None:
        verdict = "broken" if need.needed else "note"
        detail = f"for {need.who}: not found in {secrets.looked_in}"
        return Checked(need.name, verdict, "", "", need.who, detail)
    wrong = unfit(need.name, value.reveal())
    troubles = [] if wrong is None else [wrong]
    troubles += _problems(secrets.providers, need.name)
    version = f" (version {value.ref.version})" if value.ref.version else ""
    detail = "; ".join([f"for {need.who}: in {value.source}{version}", *troubles])
    verdict = "broken" if wrong else "note" if troubles else "ok"
    return Checked(need.name, verdict, value.source, value.ref.version, need.who, detail)


def _problems(providers: Sequence[SecretProvider], name: str) -> list[str]:
    """What is wrong in every place that has a name: also one that does not count can leak."""
    return [
        text
        for provider in providers
        if not provider.asks and provider.find(SecretRef(name=name)) is not None
        for text in provider.problems(name)
    ]


def _here(config: Path | None) -> Place:
    """The project of the working directory, or of a definition; none is made where there is none.

    Raises:
        Rejected: a setting is wrong, or there is no project.
    """
    settings = load_settings()
    log_to_stderr(settings.log_level)
    project = find_project(Path.cwd(), settings, config)
    if settings.state_dir is None and not project.state.exists():
        need_config(project)
    return Place(settings, project)


def _secrets(place: Place, *, keyring: bool = False) -> Secrets:
    files = env_files(place.project, notice)
    config = project_keys(place.settings, place.project, files).config
    if keyring:
        config = config.model_copy(update={"keyring": True})
    return project_secrets(place.project, config)


def _store(place: Place, *, keyring: bool) -> AgeStore | Keyring:
    wanted = AgeStore if not keyring else Keyring
    for provider in _secrets(place, keyring=keyring).providers:
        if isinstance(provider, wanted):
            return provider
    message = "no such place for secrets is configured"
    raise Unavailable(message)


def _value(name: str, file: Path | None) -> str:
    """The value, from where it is to come.

    Raises:
        Rejected: `bad_secret`: it cannot be read.
    """
    if file is None and sys.stdin.isatty():
        value = getpass.getpass(f"Value of {name}: ")
        if getpass.getpass("Again: ") != value:
            raise Rejected("bad_secret", "the two are not the same; nothing was changed")
        return value
    try:
        if file is None or str(file) == "-":
            data = sys.stdin.buffer.read(SECRET_BYTES_MAX + 2)
        else:
            with file.open("rb") as opened:
                data = opened.read(SECRET_BYTES_MAX + 2)
        return data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        message = f"cannot read {str(file)!r}: {error.strerror}"
    except UnicodeDecodeError:
        message = f"the value of {name} is not UTF-8; encode it first, as base64"
    raise Rejected("bad_secret", message)
