"""What servers of skills offer is known before a start: from a lock, or by asking each once."""

import asyncio

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
from domain.errors import PeritusError, Rejected, Unavailable
from domain.limits import ModelChoice
from domain.mcp import Catalogue, RemoteTool
from domain.sandbox import SandboxSettings
from peritus.catalogues import DISCOVERIES_MAX, SkillsNotResolved, resolve
from peritus.definitions.lock import Lock, LockedSkill, settings_digest, settings_of

MODEL = ModelChoice(provider="anthropic", model="some-model")
SEARCH = RemoteTool(name="search", description="Searches.", input_schema={"type": "object"})
FOUND = Catalogue(server="finder", version="1.2.3", tools=(SEARCH,))


def stdio(*args: str, **keys: object) -> McpStdioSkill:
    return McpStdioSkill.model_validate({"command": "npx", "args": args or ("find",), **keys})


def expert(key: str, delegates: tuple[str, ...] = (), **skills: Skill) -> Expert:
    return Expert(
        key=key,
        instruction="Work.",
        delegates=delegates,
        skills={BASE_SKILL: BaseSkill(), **skills},
        model=MODEL,
    )


def definition(*experts: Expert) -> Definition:
    return Definition(experts={one.key: one for one in experts})


def locked(skill: McpStdioSkill, catalogue: Catalogue = FOUND) -> LockedSkill:
    return LockedSkill(settings_of(skill), catalogue, settings_digest(skill))


def catalogue_of(found: Definition, key: str, skill: str) -> Catalogue | None:
    one = found.experts[key].skills[skill]
    assert isinstance(one, (McpStdioSkill, McpHttpSkill))
    return one.catalogue


class Servers:
    """Answers for every server, and notes who was asked, and how many at once."""

    def __init__(self, **errors: PeritusError) -> None:
        self.asked: list[tuple[str, str]] = []
        self.most = 0
        self._now = 0
        self._errors = errors

    async def __call__(self, key: str, name: str, skill: object) -> Catalogue:
        assert skill is not None
        self.asked.append((key, name))
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0)
        self._now -= 1
        if name in self._errors:
            raise self._errors[name]
        return FOUND


def resolved(
    of: Definition, servers: Servers, lock: Lock | None = None, wanted: str | None = None
) -> Definition:
    return asyncio.run(resolve(of, lock, servers, wanted=wanted))


def test_without_a_lock_every_server_is_asked_and_its_answer_becomes_part_of_the_definition() -> (
    None
):
    servers = Servers()
    web = McpHttpSkill(endpoint="https://mcp.example.com/")
    found = resolved(definition(expert("a", find=stdio()), expert("b", web=web)), servers)
    assert catalogue_of(found, "a", "find") == FOUND
    assert catalogue_of(found, "b", "web") == FOUND
    assert sorted(servers.asked) == [("a", "find"), ("b", "web")]


def test_a_lock_answers_for_its_servers_so_that_none_is_started() -> None:
    servers = Servers()
    lock = Lock(experts={"a": {"find": locked(stdio())}})
    found = resolved(definition(expert("a", find=stdio())), servers, lock)
    assert catalogue_of(found, "a", "find") == FOUND
    assert servers.asked == []


def test_what_is_resolved_already_is_left_alone() -> None:
    servers = Servers()
    known = Catalogue(server="known")
    found = resolved(definition(expert("a", find=stdio(catalogue=known))), servers, Lock())
    assert catalogue_of(found, "a", "find") == known
    assert servers.asked == []


def test_a_server_that_several_experts_have_alike_is_asked_once() -> None:
    servers = Servers()
    of = definition(*(expert(key, find=stdio(rule=key)) for key in "abc"))
    found = resolved(of, servers)
    assert servers.asked == [("a", "find")]
    assert all(catalogue_of(found, key, "find") == FOUND for key in "abc")


def test_the_same_server_in_another_sandbox_is_asked_again() -> None:
    servers = Servers()
    other = expert("b", find=stdio()).model_copy(
        update={"sandbox": SandboxSettings(image="team/tools:1")}
    )
    resolved(definition(expert("a", find=stdio()), other), servers)
    assert sorted(servers.asked) == [("a", "find"), ("b", "find")]


def test_the_same_server_that_is_told_something_else_is_asked_again() -> None:
    servers = Servers()
    resolved(
        definition(expert("a", find=stdio()), expert("b", find=stdio(sampling="allow"))), servers
    )
    assert sorted(servers.asked) == [("a", "find"), ("b", "find")]


def test_only_so_many_servers_are_asked_at_once() -> None:
    servers = Servers()
    skills: dict[str, Skill] = {f"s{n}": stdio(f"find{n}") for n in range(3 * DISCOVERIES_MAX)}
    resolved(definition(expert("a", (), **skills)), servers)
    assert len(servers.asked) == 3 * DISCOVERIES_MAX
    assert servers.most == DISCOVERIES_MAX


def test_servers_of_experts_that_a_run_never_reaches_are_not_asked() -> None:
    servers = Servers()
    of = definition(
        expert("a", ("b",)), expert("b", find=stdio()), expert("c", other=stdio("other"))
    )
    found = resolved(of, servers, wanted="a")
    assert servers.asked == [("b", "find")]
    assert catalogue_of(found, "c", "other") is None


def test_an_expert_that_may_choose_its_delegates_may_reach_every_server() -> None:
    servers = Servers()
    of = definition(expert("a", team=TopologySkill()), expert("c", other=stdio("other")))
    resolved(of, servers, wanted="a")
    assert servers.asked == [("c", "other")]


def test_all_failures_are_told_at_once_by_expert_and_skill() -> None:
    servers = Servers(one=Rejected("no", "there is no npx"), two=Unavailable("it is asleep"))
    of = definition(expert("a", one=stdio("1"), two=stdio("2"), three=stdio("3")))
    with pytest.raises(SkillsNotResolved) as caught:
        resolved(of, servers)
    assert caught.value.code == "skill_not_resolved"
    assert caught.value.message.splitlines() == [
        "skill 'one' of expert 'a': there is no npx",
        "skill 'two' of expert 'a': it is asleep",
    ]


def test_where_trying_again_may_help_with_everything_the_error_says_so() -> None:
    with pytest.raises(Unavailable, match="skill 'two' of expert 'a': it is asleep"):
        resolved(definition(expert("a", two=stdio())), Servers(two=Unavailable("it is asleep")))


def test_a_skill_that_changed_since_the_lock_is_told_with_what_changed() -> None:
    servers = Servers()
    lock = Lock(experts={"a": {"find": locked(stdio("find@1"))}})
    with pytest.raises(SkillsNotResolved) as caught:
        resolved(definition(expert("a", find=stdio("find@2"))), servers, lock)
    assert "args was ['find@1'] and is ['find@2']" in caught.value.message
    assert "run `peritus lock`" in caught.value.message
    assert servers.asked == []


def test_a_skill_that_the_lock_does_not_have_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(SkillsNotResolved, match=r"does not have it: run `peritus lock`"):
        resolved(definition(expert("a", find=stdio())), Servers(), Lock())


def test_a_lock_does_not_go_stale_by_how_tools_are_used() -> None:
    lock = Lock(experts={"a": {"find": locked(stdio())}})
    used = stdio(pick=("search",), rule="Search first.", timeout_ms=5)
    found = resolved(definition(expert("a", find=used)), Servers(), lock)
    assert catalogue_of(found, "a", "find") == FOUND


def seed_lock(description: str) -> Lock:
    tool = RemoteTool(name="search", description=description, input_schema={"type": "object"})
    return Lock(experts={"a": {"find": LockedSkill({}, Catalogue(tools=(tool,)))}})


def test_a_lock_of_the_seed_knows_only_a_part_so_that_the_server_is_asked() -> None:
    servers = Servers()
    of = definition(expert("a", find=stdio()))
    found = resolved(of, servers, seed_lock("Searches."))
    assert servers.asked == [("a", "find")]
    assert catalogue_of(found, "a", "find") == FOUND


def test_a_server_that_is_not_what_a_lock_of_the_seed_says_is_refused() -> None:
    of = definition(expert("a", find=stdio()))
    with pytest.raises(SkillsNotResolved, match=r"not what perstack.lock says any more \(search\)"):
        resolved(of, Servers(), seed_lock("Found things, once."))
