"""How MCP servers are reached by HTTP here: whom, with which secrets and tokens. No protocol."""

from pathlib import Path
from typing import TYPE_CHECKING

from peritus.ids import now_ms
from peritus.keys import NEVER, project_secrets
from peritus.logs import REDACTIONS
from peritus.project import Project
from peritus.settings import Settings, checked
from services.secrets.config import SecretsConfig

if TYPE_CHECKING:
    from domain.secrets import SecretRef, SecretValue
    from services.secrets.tokens import TokenStore
    from services.tool.mcp.http_connect import HttpMeans
    from services.tool.mcp.http_settings import HttpSettings

TOKENS_NAME = "mcp-tokens.age"
"""The encrypted file of tokens that MCP servers gave, beside the project's store of secrets."""


def http_settings(settings: Settings) -> "HttpSettings":
    """What the operator says.

    Raises:
        Rejected: a setting is wrong.
    """
    from services.tool.mcp.http_settings import HttpSettings  # noqa: PLC0415 - when it is needed

    ca_file = settings.egress_ca_file
    return checked(
        HttpSettings,
        {
            "allow_cidrs": settings.mcp_allow_cidrs,
            "deny_cidrs": settings.mcp_deny_cidrs,
            "domains": settings.mcp_domains,
            "proxy": settings.mcp_proxy,
            "extra_ca_file": str(ca_file) if ca_file else None,
        },
        "MCP_",
    )


def token_store(project: Project, config: SecretsConfig) -> "TokenStore":
    """Where tokens are kept."""
    from services.secrets.identity import default_identity_path  # noqa: PLC0415
    from services.secrets.tokens import TokenStore  # noqa: PLC0415

    identity = Path(config.identity) if config.identity else default_identity_path()
    store = Path(config.store) if config.store else project.state / TOKENS_NAME
    return TokenStore(store.with_name(TOKENS_NAME), identity, REDACTIONS)


def http_means(settings: Settings, project: Project, config: SecretsConfig) -> "HttpMeans":
    """All that is needed to reach servers by HTTP.

    Raises:
        Rejected: a setting is wrong.
    """
    from services.tool.mcp.http_connect import HttpMeans  # noqa: PLC0415

    secrets = project_secrets(project, config)

    async def reveal(ref: "SecretRef") -> "SecretValue | None":
        return await secrets.resolve(ref, purpose="mcp")

    return HttpMeans(
        settings=http_settings(settings),
        reveal=reveal,
        tokens=token_store(project, config),
        now_s=lambda: now_ms() / 1000,
        never=NEVER,
    )
