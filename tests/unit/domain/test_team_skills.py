"""A skill that a model gives reaches no further than its maker (C15, C16)."""

from typing import Any

import pytest

from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    McpHttpSkill,
    McpStdioSkill,
    Skill,
    TopologySkill,
)
from domain.errors import Rejected
from domain.limits import ModelChoice
from domain.mcp import Catalogue, OAuth, RemoteTool
from domain.policy import PolicyRule
from domain.sandbox import SandboxSettings, SecretGrant
from domain.team import change_team

MODEL = ModelChoice(provider="scripted", model="script")
REACH = SandboxSettings(
    allowed_domains=("*.example.com",), secrets=(SecretGrant(name="TOKEN", deliver="env"),)
)
STDIO = {"name": "s", "type": "mcpStdioSkill", "command": "server"}
HTTP = {"name": "s", "type": "mcpSseSkill", "endpoint": "https://mcp.example.com/sse"}


def maker(base: BaseSkill | None = None, **skills: Skill) -> Expert:
    own = {BASE_SKILL: base or BaseSkill(), "team": TopologySkill(), **skills}
    return Expert(key="maker", instruction="Work.", skills=own, model=MODEL, sandbox=REACH)


def add(arguments: dict[str, Any], own: Expert | None = None, *rules: PolicyRule) -> Skill:
    own = own or maker()
    definition = Definition(experts={own.key: own}, policy=rules)
    changed = change_team(definition, own.key, "addSkill", arguments).definition
    return changed.expert(own.key).skills[arguments["name"]]


def from_file(skill: Skill, own: Expert | None = None) -> Skill:
    own = own or maker()
    written = Expert(key="made", instruction="Work.", skills={"s": skill}, model=MODEL)
    arguments = {"path": "perstack.toml", "expertKey": "made"}
    changed = change_team(
        Definition(experts={own.key: own}),
        own.key,
        "addDelegateFromConfig",
        arguments,
        Definition(experts={"made": written}),
    )
    return changed.definition.expert("made").skills["s"]


def refused(message: str, run: Any, *arguments: Any) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        run(*arguments)
    assert caught.value.code == "skill_beyond_rights"


def test_who_runs_commands_may_run_a_server() -> None:
    skill = add({**STDIO, "args": ["--fast"]})

    assert skill == McpStdioSkill(command="server", args=("--fast",))


def test_who_runs_no_commands_runs_no_server() -> None:
    refused("no tool that runs any", add, STDIO, maker(BaseSkill(omit=("exec",))))
    less = Expert(key="maker", instruction="Work.", skills={"t": TopologySkill()}, model=MODEL)
    refused("no tool that runs any", add, STDIO, less)


@pytest.mark.parametrize(
    "rule",
    [
        PolicyRule(verdict="ask", tool="exec"),
        PolicyRule(verdict="deny", tool="ex*"),
        PolicyRule(verdict="deny", skill=BASE_SKILL),
        PolicyRule(verdict="ask", tool="exec", arguments={"command": "rm"}),
        PolicyRule(verdict="ask", expert="make*", tool="exec"),
    ],
)
def test_a_rule_about_commands_cannot_be_passed_by_with_a_server(rule: PolicyRule) -> None:
    refused("rules keep your own commands back", add, STDIO, None, rule)


@pytest.mark.parametrize(
    "rule",
    [
        PolicyRule(verdict="allow", tool="exec"),
        PolicyRule(verdict="ask"),  # holds for the tools of the server as well
        PolicyRule(verdict="deny", expert="other", tool="exec"),
        PolicyRule(verdict="deny", tool="grep"),
    ],
)
def test_other_rules_are_no_reason(rule: PolicyRule) -> None:
    assert isinstance(add(STDIO, None, rule), McpStdioSkill)


def test_a_server_by_http_is_at_a_host_that_commands_reach() -> None:
    skill = add(HTTP)

    assert skill == McpHttpSkill(endpoint="https://mcp.example.com/sse", transport="sse")
    refused("it reaches 'example.org'", add, {**HTTP, "endpoint": "https://example.org/"})
    refused("it reaches ''", add, {**HTTP, "endpoint": "nowhere"})


def test_an_endpoint_that_is_no_address_is_said_so() -> None:
    with pytest.raises(Rejected, match="is no address"):
        add({**HTTP, "endpoint": "https://[mcp.example.com/"})


def test_a_file_gives_a_server_no_secret_and_no_host_beyond() -> None:
    fine = McpStdioSkill(
        command="server", required_env=("TOKEN",), allowed_domains=("api.example.com",)
    )

    assert from_file(fine) == fine
    refused("'OTHER'", from_file, McpStdioSkill(command="server", required_env=("OTHER",)))
    refused("'a.org'", from_file, McpStdioSkill(command="server", allowed_domains=("a.org",)))


def test_a_file_gives_no_headers_and_no_login() -> None:
    endpoint = "https://mcp.example.com/"
    headers = McpHttpSkill(endpoint=endpoint, headers={"Authorization": "Bearer ${TOKEN}"})
    login = McpHttpSkill(endpoint=endpoint, oauth=OAuth(grant="authorization_code"))

    refused("headers or a login", from_file, headers)
    refused("headers or a login", from_file, login)


def test_a_file_does_not_let_a_server_use_the_model_or_others_work() -> None:
    given = from_file(McpStdioSkill(command="server", sampling="allow", shared=True))

    assert isinstance(given, McpStdioSkill)
    assert (given.sampling, given.shared) == ("deny", False)


def test_what_the_maker_has_itself_may_be_given_on_as_it_is() -> None:
    catalogue = Catalogue(tools=(RemoteTool(name="t", input_schema={"type": "object"}),))
    own = McpHttpSkill(
        endpoint="https://elsewhere.org/", headers={"X": "${TOKEN}"}, catalogue=catalogue
    )
    asked = own.model_copy(update={"catalogue": None})

    assert from_file(asked, maker(s=own)) == own
    refused("headers", from_file, asked.model_copy(update={"timeout_ms": 1}), maker(s=own))
