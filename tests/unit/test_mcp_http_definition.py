"""The authorisation server of a definition's login, as its file names it."""

from pathlib import Path

import pytest

from domain.definition import McpHttpSkill
from domain.errors import Rejected
from peritus.definitions import load_definition

FILE = """
[experts."helper"]
version = "1.0.0"
instruction = "Help."

[experts."helper".skills."notes"]
type = "mcpHttpSkill"
endpoint = "https://mcp.example.com/mcp"

[experts."helper".skills."notes".oauth]
grant = "client_credentials"
clientId = "machine"
clientSecret = "CLIENT_SECRET"
issuer = "{issuer}"
"""


def skill(folder: Path, issuer: str) -> McpHttpSkill:
    file = folder / "perstack.toml"
    file.write_text(FILE.format(issuer=issuer))
    found = load_definition(file).definition.expert("helper").skills["notes"]
    assert isinstance(found, McpHttpSkill)
    return found


def test_a_definition_names_the_authorisation_server_of_its_client(tmp_path: Path) -> None:
    oauth = skill(tmp_path, "https://login.example.com/tenant").oauth
    assert oauth is not None
    assert oauth.issuer == "https://login.example.com/tenant"


@pytest.mark.parametrize(
    "issuer", ["http://login.example.com", "login.example.com", "https://10.0.0.1"]
)
def test_an_authorisation_server_is_public_and_has_tls(issuer: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="issuer"):
        skill(tmp_path, issuer)
