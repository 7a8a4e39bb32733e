"""Turns the tables of MCP skills into records. Not what their servers offer."""

from collections.abc import Mapping
from typing import TypedDict, cast

from domain.definition import McpHttpSkill, McpStdioSkill
from domain.mcp import OAuth, ToolOverride
from domain.references import reference, references_in
from domain.secrets import SECRET_NAME
from peritus.definitions.fields import ITEMS_MAX
from peritus.definitions.lines import Loc
from peritus.definitions.literals import looks_secret, secret_name, take_out_endpoint
from peritus.definitions.report import Report, place
from peritus.definitions.skill_tables import (
    McpHttpSkillTable,
    McpStdioSkillTable,
    McpTable,
    McpToolTable,
    OAuthTable,
)
from peritus.definitions.telling import tell_literal
from services.loop.models.providers import PROVIDERS

OWN_HEADERS = frozenset(
    {
        *("host", "content-length", "content-type", "transfer-encoding", "connection"),
        *("accept", "accept-encoding", "last-event-id", "mcp-session-id", "mcp-protocol-version"),
        *("proxy-authorization", "te", "trailer", "upgrade"),
    }
)
"""Headers that whoever speaks to the server sets for itself."""

_MODEL_KEYS = frozenset(key for provider in PROVIDERS.values() for key in provider.keys)


class _Use(TypedDict):
    description: str
    rule: str
    pick: tuple[str, ...]
    omit: tuple[str, ...]
    allowed_domains: tuple[str, ...]
    timeout_ms: int | None
    shared: bool
    sampling: str
    overrides: dict[str, ToolOverride]


def read_stdio(report: Report, raw: object, loc: Loc) -> McpStdioSkill | None:
    """A server that is a process; None if its table is wrong and reported."""
    table = report.read(McpStdioSkillTable, raw, loc)
    overrides = None if table is None else _overrides(report, table.tools, (*loc, "tools"))
    if table is None or overrides is None:
        return None
    if (table.package_name is None) == (not table.args):
        report.error(loc, f"{place(loc)} needs one of 'packageName' and 'args'")
        return None
    if not _variables_fine(report, table, loc):
        return None
    args = [table.package_name] if table.package_name is not None else table.args
    if table.command == "npx" and "-y" not in args:
        args = ["-y", *args]  # without it npx waits for somebody to say yes
    return McpStdioSkill.model_validate(
        {
            **_use(table, overrides),
            "command": table.command,
            "args": tuple(args),
            "required_env": tuple(table.required_env),
            "env": {name: table.env[name] for name in sorted(table.env)},
        }
    )


def _variables_fine(report: Report, table: McpStdioSkillTable, loc: Loc) -> bool:
    """Whether the plain variables of a server are plain, and variables."""
    fine = True
    for name, value in table.env.items():
        problem = None
        if SECRET_NAME.fullmatch(name) is None:
            problem = "is no name of a variable: letters, digits and '_', not a digit first"
        elif name in table.required_env:
            problem = "is in 'requiredEnv' too: leave it out of one of them"
        elif looks_secret(name.replace("_", "-"), value):
            problem = (
                "would be kept in the log with the definition: run "
                f"`peritus secrets set {name}` and name it in 'requiredEnv' instead"
            )
        if problem is not None:
            report.error((*loc, "env", name), f"variable {name!r} {problem}")
            fine = False
    return fine


def read_http(report: Report, raw: object, loc: Loc) -> McpHttpSkill | None:
    """A server that is reached by HTTP; None if its table is wrong and reported."""
    if isinstance(raw, dict):
        raw, literals = take_out_endpoint(cast("dict[str, object]", raw), loc)
        for one in literals:
            tell_literal(report, one)
    table = report.read(McpHttpSkillTable, raw, loc)
    if table is None:
        return None
    overrides = _overrides(report, table.tools, (*loc, "tools"))
    fine = _headers_fine(report, table.headers, loc)
    oauth = None if table.oauth is None else _oauth(report, table.oauth, (*loc, "oauth"))
    if table.oauth is not None and any(name.lower() == "authorization" for name in table.headers):
        message = f"{place(loc)} has 'oauth', which sets the header 'Authorization' by itself"
        report.error((*loc, "headers"), message)
        return None
    if overrides is None or not fine or (table.oauth is not None and oauth is None):
        return None
    return McpHttpSkill.model_validate(
        {
            **_use(table, overrides),
            "endpoint": table.endpoint,
            "transport": "sse" if table.type == "mcpSseSkill" else "streamable_http",
            "headers": {name: table.headers[name] for name in sorted(table.headers)},
            "oauth": oauth,
        }
    )


def _use(table: McpTable, overrides: dict[str, ToolOverride]) -> _Use:
    return _Use(
        description=table.description,
        rule=table.rule,
        pick=tuple(table.pick),
        omit=tuple(table.omit),
        allowed_domains=tuple(table.allowed_domains),
        timeout_ms=table.timeout,
        shared=table.shared,
        sampling=table.sampling,
        overrides=overrides,
    )


def _overrides(report: Report, raw: object, loc: Loc) -> dict[str, ToolOverride] | None:
    """What is said of single tools, sorted by name; None if something is wrong and reported."""
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        report.error(loc, f"{place(loc)} must be a table: write [{place(loc)}.TOOL]")
        return None
    tables = cast("dict[str, object]", raw)
    if len(tables) > ITEMS_MAX:
        report.error(loc, f"{place(loc)} may have {ITEMS_MAX} tools")
        return None
    found: dict[str, ToolOverride] = {}
    for name in sorted(tables):
        table = report.read(McpToolTable, tables[name], (*loc, name))
        if table is None:
            continue
        if table.read_only and table.idempotent is False:
            message = (
                f"{place((*loc, name))}: what is read only may be done twice; "
                "leave out 'idempotent', or 'readOnly'"
            )
            report.error((*loc, name), message)
            continue
        found[name] = ToolOverride(
            timeout_ms=table.timeout, read_only=table.read_only, idempotent=table.idempotent
        )
    return found if len(found) == len(tables) else None


def _headers_fine(report: Report, headers: Mapping[str, str], loc: Loc) -> bool:
    fine = True
    seen: set[str] = set()
    for name, value in headers.items():
        problem = _header_problem(name, value, str(loc[-1]))
        if problem is None and name.lower() in seen:
            problem = "is given twice, in other letters"
        seen.add(name.lower())
        if problem is not None:
            report.error((*loc, "headers", name), f"header {name!r} {problem}")
            fine = False
    return fine


def _header_problem(name: str, value: str, skill: str) -> str | None:
    """What is wrong with a header; its value is not repeated."""
    if name.lower() in OWN_HEADERS:
        return "is set by the client itself"
    keys = [key for key in references_in(value) if key in _MODEL_KEYS]
    if keys:
        return f"would give the server {keys[0]}, the key of a model: use a secret of its own"
    if looks_secret(name, value):
        secret = secret_name(skill, name)
        return (
            "would be kept in the log with the definition: run "
            f"`peritus secrets set {secret}` and write {reference(secret)} in place of the value"
        )
    return None


def _oauth(report: Report, raw: object, loc: Loc) -> OAuth | None:
    table = report.read(OAuthTable, raw, loc)
    if table is None:
        return None
    secret = table.client_secret
    if secret is not None and (SECRET_NAME.fullmatch(secret) is None or looks_secret("", secret)):
        message = (
            f"{place((*loc, 'clientSecret'))} must be the name of a secret, not its value: run "
            f"`peritus secrets set NAME` and write that name"
        )
        report.error((*loc, "clientSecret"), message)
        return None
    if secret in _MODEL_KEYS:
        report.error((*loc, "clientSecret"), f"{secret} is the key of a model: use another secret")
        return None
    if table.grant == "client_credentials" and (table.client_id is None or secret is None):
        message = f'{place(loc)} with grant = "client_credentials" needs clientId and clientSecret'
        report.error(loc, message)
        return None
    if secret is not None and table.client_id is None:
        report.error(loc, f"{place(loc)} has a 'clientSecret' and no 'clientId'")
        return None
    return OAuth(
        grant=table.grant,
        client_id=table.client_id,
        client_secret=secret,
        issuer=table.issuer,
        scopes=tuple(table.scopes),
    )
