"""Tables of MCP skills: every key, what is wrong with one, and where secrets of one are."""

from pathlib import Path

import pytest

from domain.definition import McpHttpSkill, McpStdioSkill, Skill
from domain.mcp import OAuth, ToolOverride
from domain.secrets import SecretRef
from peritus.definitions.mcp_skills import OWN_HEADERS
from peritus.held import DefinitionSecrets
from peritus.keys import needs_of
from services.tool.mcp.http_headers import OURS
from tests.support.definitions import expert, hello, load, problem, problems, write


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def skill(project: Path, table: str) -> Skill:
    return hello(project, expert(f"[experts.hello.skills.s]\n{table}")).skills["s"]


def fault(project: Path, table: str) -> str:
    """What is wrong with a table; its first line is line 4."""
    return problem(project, expert(f"[experts.hello.skills.s]\n{table}"))


def test_every_key_of_a_process_is_read(project: Path) -> None:
    found = skill(
        project,
        """\
type = "mcpStdioSkill"
description = "Finds."
rule = "Find first."
pick = ["search", "fetch"]
omit = ["fetch"]
command = "uvx"
packageName = "finder@1.2.3"
requiredEnv = ["FINDER_KEY"]
env = { FINDER_STORE = "/workspace/found", FINDER_MODE = "fast" }
allowedDomains = ["*.example.com"]
timeout = 30000
shared = true
sampling = "allow"
[experts.hello.skills.s.tools.search]
timeout = 5000
readOnly = true
[experts.hello.skills.s.tools."web.fetch"]
idempotent = true
""",
    )
    assert found == McpStdioSkill(
        description="Finds.",
        rule="Find first.",
        pick=("search", "fetch"),
        omit=("fetch",),
        command="uvx",
        args=("finder@1.2.3",),
        required_env=("FINDER_KEY",),
        env={"FINDER_MODE": "fast", "FINDER_STORE": "/workspace/found"},
        allowed_domains=("*.example.com",),
        timeout_ms=30_000,
        shared=True,
        sampling="allow",
        overrides={
            "search": ToolOverride(timeout_ms=5_000, read_only=True),
            "web.fetch": ToolOverride(idempotent=True),
        },
    )


def test_every_key_of_a_server_over_http_is_read(project: Path) -> None:
    found = skill(
        project,
        """\
type = "mcpHttpSkill"
endpoint = "https://mcp.example.com/mcp"
headers = { "X-Team" = "blue", Authorization = "Bearer ${TEAM_TOKEN}" }
pick = ["search"]
timeout = 9
""",
    )
    assert found == McpHttpSkill(
        endpoint="https://mcp.example.com/mcp",
        headers={"Authorization": "Bearer ${TEAM_TOKEN}", "X-Team": "blue"},
        pick=("search",),
        timeout_ms=9,
    )


def test_the_type_of_the_seed_speaks_the_older_transport(project: Path) -> None:
    found = skill(project, 'type = "mcpSseSkill"\nendpoint = "https://example.com/sse"')
    assert found == McpHttpSkill(endpoint="https://example.com/sse", transport="sse")


def test_logins_name_their_secrets(project: Path) -> None:
    oauth = (
        'oauth = { grant = "client_credentials", clientId = "me", '
        'clientSecret = "MCP_CLIENT", issuer = "https://login.example.com", '
        'scopes = ["read", "write"] }'
    )
    http = 'type = "mcpHttpSkill"\nendpoint = "https://example.com/"\n'
    found = skill(project, http + oauth)
    assert isinstance(found, McpHttpSkill)
    assert found.oauth == OAuth(
        grant="client_credentials",
        client_id="me",
        client_secret="MCP_CLIENT",
        issuer="https://login.example.com",
        scopes=("read", "write"),
    )
    text = expert(f'[experts.hello.skills.s]\n{http}headers = {{ "X-A" = "${{A_TOKEN}}" }}')
    needs = needs_of(load(project, text).definition)
    assert [(one.name, one.who) for one in needs] == [
        ("ANTHROPIC_API_KEY", "provider anthropic"),
        ("A_TOKEN", "skill s of expert hello"),
    ]
    person = skill(project, http + 'oauth = { grant = "authorization_code" }')
    assert isinstance(person, McpHttpSkill)
    assert person.oauth == OAuth(grant="authorization_code")


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:8000/mcp",
        "http://localhost/",
        "http://[::1]:9/",
        "https://127.9.9.9/",
        "https://mcp.example.com:8443/a?b=c",
    ],
)
def test_servers_of_this_machine_may_be_written_without_tls(project: Path, endpoint: str) -> None:
    found = skill(project, f'type = "mcpHttpSkill"\nendpoint = "{endpoint}"')
    assert isinstance(found, McpHttpSkill)
    assert found.endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://example.com/",
        "https://10.0.0.1/",
        "http://192.168.0.1/",
        "https://[fd00::1]/",
        "https://169.254.169.254/",
        "ftp://127.0.0.1/",
        "https://",
        "https://[::1",
        "localhost:8000",
    ],
)
def test_other_addresses_are_errors_that_show_what_may_be_written(
    project: Path, endpoint: str
) -> None:
    found = fault(project, f'type = "mcpHttpSkill"\nendpoint = "{endpoint}"')
    assert found.startswith("perstack.toml:5: experts.hello.skills.s.endpoint: ")
    assert "'http://127.0.0.1:8000/mcp'" in found


HTTP = 'type = "mcpHttpSkill"\nendpoint = "https://a.b"\n'
STDIO = 'type = "mcpStdioSkill"\ncommand = "npx"\npackageName = "p"\n'


@pytest.mark.parametrize(
    ("table", "line", "says"),
    [
        (STDIO + 'env = { "A-B" = "x" }', 7, "no name of a variable"),
        (STDIO + 'env = { API_TOKEN = "s3cret-0123" }', 7, "run `peritus secrets set API_TOKEN`"),
        (STDIO + 'requiredEnv = ["A"]\nenv = { A = "x" }', 8, "in 'requiredEnv' too"),
        (STDIO + "env = { A = 1 }", 7, "must be a text"),
        (HTTP + 'headers = { Authorization = "Bearer s3cret-0123" }', 6, "kept in the log"),
        (
            HTTP + 'headers = { "X-Api-Key" = "s3cret-0123" }',
            6,
            "run `peritus secrets set S_X_API_KEY` and write ${S_X_API_KEY} in place of",
        ),
        (HTTP + 'headers = { "X-A" = "${OPENAI_API_KEY}" }', 6, "the key of a model"),
        (HTTP + 'headers = { "Mcp-Session-Id" = "1" }', 6, "is set by the client itself"),
        (HTTP + 'headers = { "X-A" = "1", "x-a" = "2" }', 6, "is given twice"),
        (HTTP + 'headers = { "X-A" = 1 }', 6, "must be a text"),
        (HTTP + 'command = "npx"', 6, "unknown key 'command'"),
        (HTTP + 'endPoint = "x"', 6, "did you mean 'endpoint'?"),
        (HTTP + 'oauth = "x"', 6, "must be a table"),
        (HTTP + 'oauth = { grant = "password" }', 6, "'client_credentials' or"),
        (
            HTTP + 'oauth = { grant = "authorization_code", issuer = "http://a.b" }',
            6,
            "must be the https address",
        ),
        (HTTP + 'oauth = { grant = "client_credentials" }', 6, "needs clientId and clientSecret"),
        (
            HTTP + 'oauth = { grant = "authorization_code", clientSecret = "s3cret-of.x" }',
            6,
            "must be the name of a secret, not its value: run `peritus secrets set NAME`",
        ),
        (
            HTTP + 'oauth = { grant = "authorization_code", clientSecret = "MINE" }',
            6,
            "has a 'clientSecret' and no 'clientId'",
        ),
        (
            HTTP + 'oauth = { grant = "authorization_code", clientId = "i", '
            'clientSecret = "OPENAI_API_KEY" }',
            6,
            "the key of a model",
        ),
        (
            HTTP + 'headers = { authorization = "Bearer ${A}" }\n'
            'oauth = { grant = "authorization_code" }',
            6,
            "which sets the header 'Authorization' by itself",
        ),
        (HTTP + "timeout = 0", 6, "greater than or equal to 1"),
        (STDIO + "timeOut = 5", 7, "did you mean 'timeout'?"),
        (STDIO + 'sampling = "ask"', 7, "'deny' or 'allow'"),
        (STDIO + 'shared = "yes"', 7, "must be true or false"),
        (STDIO + "tools = [1]", 7, "write [experts.hello.skills.s.tools.TOOL]"),
        (STDIO + "tools.search = 1", 7, "must be a table"),
        (STDIO + "tools.search = { readonly = true }", 7, "did you mean 'readOnly'?"),
        (
            STDIO + "tools.search = { readOnly = true, idempotent = false }",
            7,
            "what is read only may be done twice",
        ),
        (STDIO + 'headers = { a = "b" }', 7, "unknown key 'headers'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_never_with_a_secret(
    project: Path, table: str, line: int, says: str
) -> None:
    found = fault(project, table)
    assert found.startswith(f"perstack.toml:{line}: ")
    assert says in found
    assert "s3cr" not in found


def test_all_that_is_wrong_with_a_skill_is_told_at_once(project: Path) -> None:
    table = HTTP + 'headers = { Host = "x" }\ntools.a = { b = 1 }\ntools.c = { d = 1 }'
    found = problems(project, expert(f"[experts.hello.skills.s]\n{table}"))
    assert [line.split(":")[1] for line in found] == ["6", "7", "8"]


def test_headers_that_a_definition_may_not_set_are_those_the_client_would_refuse() -> None:
    assert OWN_HEADERS == OURS


SEED_KEYS = """\
type = "mcpSseSkill"
endpoint = "https://me:p%40ss@mcp.example.com/sse?team=blue&api_key=lit%2Beral-0123"
"""


def test_keys_in_an_address_of_the_seed_are_taken_out_and_found_in_the_file(
    project: Path,
) -> None:
    text = expert(f"[experts.hello.skills.s]\n{SEED_KEYS}")
    loaded = load(project, text)
    found = loaded.definition.experts["hello"].skills["s"]
    assert found == McpHttpSkill(
        endpoint="https://mcp.example.com/sse?team=blue&api_key=${HELLO_S_ENDPOINT_API_KEY}",
        headers={"Authorization": "Basic ${HELLO_S_ENDPOINT_LOGIN}"},
        transport="sse",
    )
    assert "lit" not in loaded.definition.to_bytes().decode()
    assert sum("`peritus secrets set HELLO_S_ENDPOINT_" in note for note in loaded.notices) == 2
    source = DefinitionSecrets(project / "perstack.toml")
    values = [
        source.find(SecretRef(name=f"HELLO_S_ENDPOINT_{what}")) for what in ("API_KEY", "LOGIN")
    ]
    assert [value and value.reveal() for value in values] == ["lit+eral-0123", "bWU6cEBzcw=="]


def test_keys_in_an_included_file_are_found_too(project: Path) -> None:
    files = {
        "perstack.toml": 'include = ["more.toml"]\n',
        "more.toml": expert(f"[experts.hello.skills.s]\n{SEED_KEYS}"),
    }
    names = [place.name for place in DefinitionSecrets(write(project, files)).places()]
    assert names == ["HELLO_S_ENDPOINT_API_KEY", "HELLO_S_ENDPOINT_LOGIN"]
