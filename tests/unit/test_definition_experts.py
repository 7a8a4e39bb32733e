"""What a file says of skills and delegates, and what it is resolved to. Not its other keys."""

from pathlib import Path

import pytest

from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    McpHttpSkill,
    McpStdioSkill,
)
from peritus.definitions import (
    DefinitionError,
    LoadedDefinition,
    load_definition,
)

HELLO = '[experts.hello]\ninstruction = "Greet."\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(project: Path, text: str, *, lenient: bool = False) -> LoadedDefinition:
    path = project / "perstack.toml"
    path.write_text(text, encoding="utf-8")
    return load_definition(path, lenient=lenient)


def problems(project: Path, text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load(project, text)
    return caught.value.message.splitlines()


def expert(keys: str = "", *, name: str = "hello") -> str:
    return f'[experts."{name}"]\ninstruction = "Work."\n{keys}\n'


# skills


def test_expert_without_skills_has_the_base_skill(project: Path) -> None:
    assert load(project, HELLO).definition.experts["hello"].skills == {BASE_SKILL: BaseSkill()}


def test_expert_with_other_skills_has_the_base_skill_too(project: Path) -> None:
    text = expert('skills.shop = { type = "localSkill", tools = ["buy"], rule = "Little." }')
    loaded = load(project, text)
    assert loaded.notices == ()
    assert loaded.definition.experts["hello"].skills == {
        BASE_SKILL: BaseSkill(),
        "shop": LocalSkill(tools=("buy",), rule="Little."),
    }


def test_base_skill_as_written_for_the_seed_needs_no_command(project: Path) -> None:
    text = expert(
        '[experts.hello.skills."@perstack/base"]\ntype = "mcpStdioSkill"\ncommand = "npx"\n'
        'packageName = "@perstack/base"\npick = ["exec", "todo"]\nomit = ["todo"]\n'
        'requiredEnv = ["GH_TOKEN"]\nallowedDomains = ["*.example.com"]\nlazyInit = false\n'
    )
    loaded = load(project, text)
    assert loaded.notices == ()
    assert loaded.definition.experts["hello"].skills[BASE_SKILL] == BaseSkill(
        pick=("exec", "todo"),
        omit=("todo",),
        required_env=("GH_TOKEN",),
        allowed_domains=("*.example.com",),
    )


def test_pinned_version_of_the_base_skill_is_a_notice(project: Path) -> None:
    text = expert('skills."@perstack/base" = { packageName = "@perstack/base@0.0.34" }')
    (notice,) = load(project, text).notices
    assert notice == ("perstack.toml:3: 'packageName' has no effect: the base skill is built in")


def test_former_tools_may_be_picked_with_a_notice_and_misspelt_ones_may_not(project: Path) -> None:
    picks = 'pick = ["exec",\n"think",\n"{}"]'
    head = '[experts.hello.skills."@perstack/base"]\n'
    (notice,) = load(project, expert(head + picks.format("todo"))).notices
    assert notice.startswith("perstack.toml:5: there is no tool 'think'")
    (problem,) = problems(project, expert(head + picks.format("readTextfile")))
    assert problem == (
        "perstack.toml:6: the base skill has no tool 'readTextfile'; did you mean 'readTextFile'?"
    )


def test_mcp_skills_load_and_a_notice_says_that_servers_are_asked_at_each_start(
    project: Path,
) -> None:
    text = expert(
        'skills.a = { type = "mcpStdioSkill", command = "npx", args = ["p"], lazyInit = true }\n'
        'skills.b = { type = "mcpStdioSkill", command = "uvx", packageName = "p" }\n'
        'skills.c = { type = "mcpSseSkill", endpoint = "https://example.com/sse", omit = ["x"] }'
    )
    loaded = load(project, text)
    skills = loaded.definition.experts["hello"].skills
    assert skills["a"] == McpStdioSkill(command="npx", args=("-y", "p"))
    assert skills["b"] == McpStdioSkill(command="uvx", args=("p",))
    assert skills["c"] == McpHttpSkill(
        endpoint="https://example.com/sse", transport="sse", omit=("x",)
    )
    assert [notice.split(":")[1] for notice in loaded.notices] == ["3", "3"]
    assert "started when one of its tools is first called" in loaded.notices[0]
    assert "3 servers are asked for tools at each start: run `peritus lock`" in loaded.notices[1]


def test_interactive_skill_has_its_schemas_parsed(project: Path) -> None:
    text = expert(
        '[experts.hello.skills.ask]\ntype = "interactiveSkill"\n'
        '[experts.hello.skills.ask.tools.question]\ndescription = "Ask."\n'
        """inputJsonSchema = '{"type":"object","properties":{}}'"""
    )
    parameters: dict[str, object] = {"type": "object", "properties": {}}
    assert load(project, text).definition.experts["hello"].skills["ask"] == InteractiveSkill(
        tools={"question": InteractiveTool(description="Ask.", parameters=parameters)}
    )


@pytest.mark.parametrize(
    ("skill", "says"),
    [
        ("{ }", "'type' is missing in experts.hello.skills.s"),
        ('{ type = "mcpStdioSkill" }', "'command' is missing"),
        ('{ type = "mcpStdioSkill", command = "npx" }', "one of 'packageName' and 'args'"),
        (
            '{ type = "mcpStdioSkill", command = "npx", packageName = "p", args = ["p"] }',
            "one of 'packageName' and 'args'",
        ),
        ('{ type = "mcpSseSkill", endpoint = "http://example.com" }', "must be the https address"),
        ('{ type = "mcpSseSkill", endpoint = "https://10.0.0.1/" }', "of a public host"),
        ('{ type = "mcpSseSkill", endpoint = "https://[fd00::1]/" }', "of a public host"),
        ('{ type = "interactiveSkill", tools = {} }', "has no tools"),
        (
            '{ type = "interactiveSkill", tools = { a = { inputJsonSchema = "{" } } }',
            "tools.a.inputJsonSchema: not JSON",
        ),
        (
            '{ type = "interactiveSkill", tools = { a = { inputJsonSchema = "[]" } } }',
            "must be the JSON schema of an object",
        ),
        ('{ type = "localSkill", tools = [] }', "at least 1 item"),
        ('{ type = "remoteSkill" }', "unknown type 'remoteSkill'"),
        (
            '{ type = "localSkill", tools = ["a"], allowedDomains = [] }',
            "unknown key 'allowedDomains'",
        ),
        (
            '{ type = "mcpSseSkill", endpoint = "https://a.b", allowedDomains = ["xn--a.com"] }',
            "must be a host",
        ),
        (
            '{ type = "mcpStdioSkill", command = "a", args = ["b"], requiredEnv = ["A=B"] }',
            "is not the name of an environment variable",
        ),
        ("1", "must be a table"),
    ],
)
def test_wrong_skill_is_an_error_on_its_line(project: Path, skill: str, says: str) -> None:
    (problem,) = problems(project, expert(f"skills.s = {skill}"))
    assert problem.startswith("perstack.toml:3: ")
    assert says in problem


# topology


def team(**delegates: list[str]) -> str:
    keys = {key.replace("__", "/").replace("AT_", "@"): to for key, to in delegates.items()}
    return "".join(expert(f"delegates = {to}", name=key) for key, to in keys.items())


def test_calls_down_across_and_to_other_coordinators_are_allowed(project: Path) -> None:
    text = team(a=["@a/one", "b"], b=["a"], AT_a__one=["@a/two", "b"], AT_a__two=[])
    assert load(project, text).definition.experts["a"].delegates == ("@a/one", "b")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (team(a=["a"]), "cannot delegate to itself"),
        (team(a=["@b/one"], AT_b__one=[]), "it is a delegate of 'b' only"),
        (team(AT_a__one=["@b/one"], AT_b__one=[]), "it is a delegate of 'b' only"),
        (team(AT_a__one=["a"], a=[]), "a delegate cannot call its own coordinator"),
        (team(a=["wrter"], writer=[]), "not in this file; did you mean 'writer'?"),
        (team(a=["elsewhere"]), "experts cannot be fetched from a registry"),
        (team(a=["b", "b"], b=[]), "'b', as one of delegate 'b'"),
        (team(a=["@a/b", "b"], AT_a__b=[], b=[]), "'b', as one of delegate '@a/b'"),
        (team(a=["exec"], exec=[]), "'exec', as one of skill '@perstack/base'"),
        (team(**{"a": ["b.c"], "b.c": []}), "which models do not take"),
    ],
)
def test_edge_that_is_not_allowed_is_an_error(project: Path, text: str, says: str) -> None:
    (problem,) = problems(project, text)
    assert says in problem


def test_delegate_may_take_the_name_of_an_omitted_tool(project: Path) -> None:
    omit = 'delegates = ["exec"]\nskills."@perstack/base" = { omit = ["exec"] }'
    text = expert(omit, name="a") + expert(name="exec")
    assert load(project, text).definition.experts["a"].delegates == ("exec",)


def test_two_skills_with_a_tool_of_the_same_name_are_an_error(project: Path) -> None:
    text = expert(
        'skills.x = { type = "localSkill", tools = ["buy"] }\n'
        'skills.y = { type = "localSkill", tools = ["buy"] }'
    )
    (problem,) = problems(project, text)
    assert problem == "perstack.toml:4: skills 'x' and 'y' both have a tool 'buy'"


# the digest


def test_digest_does_not_depend_on_the_order_of_keys_or_on_the_working_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = (
        'model = "m"\nmaxSteps = 5\n[experts.a]\ninstruction = "x"\ndescription = "d"\n'
        'skills.s = { type = "localSkill", tools = ["t"] }\n'
        'skills."@perstack/base" = { omit = ["exec"], rule = "r" }\n[experts.b]\ninstruction = "y"'
    )
    two = (
        'maxSteps = 5\nmodel = "m"\n[experts.b]\ninstruction = "y"\n[experts.a]\n'
        'skills."@perstack/base" = { rule = "r", omit = ["exec"] }\n'
        'skills.s = { tools = ["t"], type = "localSkill" }\ndescription = "d"\ninstruction = "x"'
    )
    digest = load(project, one).definition.digest()
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    assert load(project, two).definition.digest() == digest


def test_digest_changes_with_the_instruction(project: Path) -> None:
    other = HELLO.replace("Greet", "Insult")
    assert load(project, HELLO).definition.digest() != load(project, other).definition.digest()
