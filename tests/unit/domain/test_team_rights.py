"""What an expert makes has no base tool and no tool of the program that its maker has not."""

import pytest

from domain.base_tools import BASE_TOOLS, select_base_tools
from domain.definition import (
    BASE_SKILL,
    BaseSkill,
    Definition,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    LocalSkill,
    Skill,
    TopologySkill,
)
from domain.errors import Rejected
from domain.limits import ModelChoice
from domain.policy import Asked, PolicyLayer, PolicyRule, Verdict, judge
from domain.sandbox import SandboxSettings
from domain.team import EXPERTS_MAX, change_team

MAKER = "maker"
MODEL = ModelChoice(provider="scripted", model="script")


def expert(key: str, **skills: Skill) -> Expert:
    named = {name.replace("base", BASE_SKILL): skill for name, skill in skills.items()}
    return Expert(key=key, instruction="Work.", skills=named, model=MODEL)


def definition(*experts: Expert) -> Definition:
    return Definition(experts={one.key: one for one in experts})


def tools_of(made: Expert) -> set[str]:
    base = made.skills[BASE_SKILL]
    assert isinstance(base, BaseSkill)
    return set(select_base_tools(pick=base.pick, omit=base.omit))


def from_file(maker: Expert, written: Expert) -> Expert:
    change = change_team(
        definition(maker),
        MAKER,
        "addDelegateFromConfig",
        {"path": "perstack.toml", "expertKey": written.key},
        definition(written),
    )
    return change.definition.expert(written.key)


@pytest.mark.parametrize(
    ("has", "wants", "gets"),
    [
        (BaseSkill(), BaseSkill(), set(BASE_TOOLS)),
        (BaseSkill(omit=("exec",)), BaseSkill(), set(BASE_TOOLS) - {"exec"}),
        (BaseSkill(omit=("exec",)), BaseSkill(pick=("exec", "grep")), {"grep"}),
        (BaseSkill(pick=("glob", "grep")), BaseSkill(omit=("grep",)), {"glob"}),
    ],
)
def test_an_expert_of_a_file_has_only_base_tools_of_its_maker(
    has: BaseSkill, wants: BaseSkill, gets: set[str]
) -> None:
    maker = expert(MAKER, base=has, team=TopologySkill())

    assert tools_of(from_file(maker, expert("made", base=wants))) == gets


def test_whoever_gave_its_base_skill_away_makes_experts_without_tools() -> None:
    maker = expert(MAKER, base=BaseSkill(omit=("exec",)), team=TopologySkill())
    less = change_team(definition(maker), MAKER, "removeSkill", {"name": BASE_SKILL}).definition

    created = change_team(less, MAKER, "createExpert", {"key": "made", "instruction": "Work."})
    written = from_file(less.expert(MAKER), expert("made", base=BaseSkill()))

    assert tools_of(created.definition.expert("made")) == set()
    assert tools_of(written) == set()


def test_an_expert_of_a_file_has_only_tools_of_the_program_that_its_maker_has() -> None:
    maker = expert(MAKER, team=TopologySkill(), office=LocalSkill(tools=("price",)))
    made = from_file(maker, expert("made", shop=LocalSkill(tools=("price", "pay"))))

    assert "shop" not in made.skills, "rules about the maker's skill go by its name"
    assert made.skills["office"] == LocalSkill(tools=("price",))


def rule(verdict: Verdict, expert: str = "*", reason: str = "") -> PolicyRule:
    return PolicyRule(verdict=verdict, expert=expert, tool="exec", reason=reason)


def verdict_of(made: Expert, over: Definition, rules: tuple[PolicyRule, ...]) -> Verdict:
    """What all layers together say of a call of exec by an expert."""
    layers = (
        PolicyLayer(name="operator", rules=rules),
        PolicyLayer(name="definition", rules=over.policy),
        PolicyLayer(name="expert", rules=made.policy),
    )
    return judge(layers, (), Asked(made.key, BASE_SKILL, "exec", {})).verdict


VERDICTS: tuple[Verdict, ...] = ("allow", "ask", "deny")
LEVELS = [None, *(rule(one, MAKER) for one in VERDICTS), *(rule(one) for one in VERDICTS)]


@pytest.mark.parametrize("operator", LEVELS, ids=str)
@pytest.mark.parametrize("of_file", LEVELS, ids=str)
@pytest.mark.parametrize("own", VERDICTS)
def test_no_rule_about_a_maker_holds_less_of_what_it_makes(
    operator: PolicyRule | None, of_file: PolicyRule | None, own: Verdict
) -> None:
    maker = expert(MAKER, base=BaseSkill(), team=TopologySkill())
    maker = maker.model_copy(update={"policy": (rule(own),)})
    policy = () if of_file is None else (of_file,)
    rules = () if operator is None else (operator,)
    over = definition(maker).model_copy(update={"policy": policy})

    asked = {"key": "made", "instruction": "Work."}
    created = change_team(over, MAKER, "createExpert", asked, rules=rules).definition
    twice = created.expert("made").model_copy(update={"skills": maker.skills})
    again = change_team(
        created.model_copy(update={"experts": {**created.experts, "made": twice}}),
        "made",
        "createExpert",
        {"key": "grandchild", "instruction": "Work."},
        rules=rules,
    ).definition

    wanted = verdict_of(maker, over, rules)
    assert verdict_of(created.expert("made"), over, rules) == wanted
    assert verdict_of(again.expert("grandchild"), over, rules) == wanted


def test_rules_that_name_a_maker_come_before_what_a_file_allows_its_expert() -> None:
    maker = expert(MAKER, base=BaseSkill(), team=TopologySkill())
    over = definition(maker).model_copy(update={"policy": (rule("deny", "mak*", reason="no"),)})
    written = expert("made", base=BaseSkill()).model_copy(update={"policy": (rule("allow"),)})

    change = change_team(
        over,
        MAKER,
        "addDelegateFromConfig",
        {"path": "perstack.toml", "expertKey": "made"},
        definition(written),
    )

    made = change.definition.expert("made")
    assert verdict_of(made, over, ()) == "deny"
    assert made.policy[0].reason == "no"


def test_a_file_cannot_make_a_team_grow_beyond_its_limit() -> None:
    maker = expert(MAKER, base=BaseSkill(), team=TopologySkill())
    experts = [expert(f"made-{number}", base=BaseSkill()) for number in range(EXPERTS_MAX)]

    arguments = {"path": "perstack.toml", "expertKey": "made-0"}
    with pytest.raises(Rejected) as refused:
        change_team(
            definition(maker), MAKER, "addDelegateFromConfig", arguments, definition(*experts)
        )
    fits = change_team(
        definition(maker),
        MAKER,
        "addDelegateFromConfig",
        arguments,
        definition(*experts[1:-1], experts[0]),
    )

    assert refused.value.code == "too_many_experts"
    assert len(fits.definition.experts) == EXPERTS_MAX


def test_an_expert_of_a_file_works_apart_when_its_maker_does() -> None:
    """What works in a copy of the workspace makes nobody who works in the workspace itself."""
    apart = SandboxSettings(workspace="isolated")
    maker = expert(MAKER, team=TopologySkill()).model_copy(update={"sandbox": apart})

    assert from_file(maker, expert("made")).sandbox.workspace == "isolated"


def test_an_expert_of_a_file_changes_its_team_with_its_makers_tools_only() -> None:
    maker = expert(MAKER, team=TopologySkill(pick=("addDelegateFromConfig",)))
    made = from_file(maker, expert("made", all=TopologySkill()))

    assert made.skills["team"] == TopologySkill(pick=("addDelegateFromConfig",))
    assert "all" not in made.skills


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"pattern": "(?=x)y"}}},
        {"type": "object", "patternProperties": {"^(a+)+$": {}}},
    ],
)
def test_a_file_brings_no_pattern_that_takes_time(schema: dict[str, object]) -> None:
    maker = expert(MAKER, team=TopologySkill())
    for field in ("input_schema", "output_schema"):
        with pytest.raises(Rejected, match="a schema of expert 'made'"):
            from_file(maker, expert("made").model_copy(update={field: schema}))
    asks = InteractiveSkill(tools={"ask": InteractiveTool(parameters=schema)})
    with pytest.raises(Rejected, match="a schema of expert 'made'"):
        from_file(maker, expert("made", people=asks))


@pytest.mark.parametrize(
    ("key", "delegates"),
    [
        ("editor@9.9.9", ["@editor/keeper"]),
        ("@editor/mine", []),
        ("fresh", ["@editor/keeper"]),
        ("fresh", ["boss"]),
    ],
)
def test_nobody_makes_an_expert_of_a_team_that_is_not_its_own(
    key: str, delegates: list[str]
) -> None:
    """Scopes hold at work as they hold in a file: `@boss/a` may call neither, nor make who may."""
    over = definition(
        expert("boss"),
        expert("@boss/a", team=TopologySkill()),
        expert("editor"),
        expert("@editor/keeper"),
    )
    arguments = {"key": key, "instruction": "Work.", "delegates": delegates}
    with pytest.raises(Rejected) as caught:
        change_team(over, "@boss/a", "createExpert", arguments)
    assert caught.value.code in {"bad_key", "forbidden_delegate"}
    fine = {"key": "@boss/b", "instruction": "Work.", "delegates": ["editor"]}
    assert "@boss/b" in change_team(over, "@boss/a", "createExpert", fine).definition.experts
