"""`peritus tools login` and `logout`: tokens for MCP servers that want one. Not what uses them."""

import webbrowser
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from domain.definition import McpHttpSkill
from domain.errors import Rejected
from domain.mcp import Catalogue
from peritus.cli import options
from peritus.cli.loop import notice, run_async
from peritus.cli.observing import Place, anywhere
from peritus.definitions import load_definition
from peritus.definitions.report import did_you_mean
from peritus.keys import project_keys
from peritus.project import need_config, operator_of
from peritus.reach import http_means

if TYPE_CHECKING:
    from services.tool.mcp.http_connect import HttpMeans

Expert = Annotated[str, typer.Argument(metavar="EXPERT", help="The key of an expert.")]
Skill = Annotated[
    str, typer.Argument(metavar="SKILL", help="The name of one of its skills with a login.")
]


def log_in(
    expert: Expert,
    skill: Skill,
    *,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address; open no browser.")
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            help="Port of this machine that the browser comes back to; 0: a free one.",
            min=0,
            max=65_535,
        ),
    ] = 0,
    config: options.Config = None,
    env_path: options.EnvPath = None,
) -> None:
    """Log in for an MCP server whose skill says so by `oauth`; runs then use the token.

    It is kept encrypted beside the secrets of the project, for all workers that use the same file,
    and refreshed when it ends. With `client_credentials` nobody has to log in: this only tries it.
    """
    place = anywhere(config)
    found, means = _skill(place, expert, skill, env_path)

    def show(url: str) -> None:
        notice(f"log in at: {url}")
        if not no_browser:
            webbrowser.open(url)

    offered = run_async(_logged_in(means, place.settings.tenant, found, show, port))
    if offered is None:
        notice(f"{found.endpoint} wants no login: there is no token to keep")
        return
    notice(f"logged in at {found.endpoint}; the token is kept in {means.tokens.label}")


def log_out(
    expert: Expert,
    skill: Skill,
    config: options.Config = None,
    env_path: options.EnvPath = None,
) -> None:
    """Forget the token of an MCP server. The server itself is told nothing."""
    from services.tool.http_login import log_out as forget  # noqa: PLC0415 - imports the SDK

    place = anywhere(config)
    found, means = _skill(place, expert, skill, env_path)
    if not run_async(forget(means, place.settings.tenant, found)):
        message = f"there is no token for skill {skill!r} of expert {expert!r}"
        raise Rejected("no_login", message)
    notice(f"the token for {found.endpoint} is forgotten")


async def _logged_in(
    means: "HttpMeans", tenant: str, skill: McpHttpSkill, show: Callable[[str], None], port: int
) -> Catalogue | None:
    from services.tool.http_login import log_in as get_token  # noqa: PLC0415 - imports the SDK
    from services.tool.mcp.oauth_listener import at_browser  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        try:
            person = await stack.enter_async_context(at_browser(show, port))
        except OSError as error:
            message = f"cannot listen on port {port} of this machine: {error.strerror}"
            raise Rejected("cannot_listen", message) from None
        return await get_token(means, tenant, skill, person)


def _skill(
    place: Place, expert: str, name: str, env_path: list[Path] | None
) -> tuple[McpHttpSkill, "HttpMeans"]:
    """The skill of a definition, and what its server is reached with.

    Raises:
        Rejected: there is no such skill, or it needs no login.
    """
    loaded = load_definition(
        need_config(place.project, expert),
        wanted=expert,
        lenient=True,
        variables_open=True,
        locked=False,  # a login may be needed before servers can be asked
        operator=operator_of(place.settings),
    )
    skills = loaded.definition.expert(expert).skills
    found = skills.get(name)
    if found is None:
        hint = did_you_mean(name, skills)
        raise Rejected("unknown_skill", f"expert {expert!r} has no skill {name!r}{hint}")
    if not isinstance(found, McpHttpSkill) or found.oauth is None:
        message = f"skill {name!r} of expert {expert!r} has no 'oauth': there is nothing to log in"
        raise Rejected("no_login", message)
    files = tuple(env_path) if env_path else loaded.env_paths
    keys = project_keys(place.settings, place.project, files)
    return found, http_means(place.settings, place.project, keys.config)
