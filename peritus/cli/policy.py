"""`peritus policy`: the rules about calls that hold in a run, and those that people give it."""

from typing import Annotated, Any, Literal

import orjson
import typer

from domain.policy import ANY, PolicyRule
from domain.state import RunState
from peritus.cli import asks, options
from peritus.cli.deciding import deciding
from peritus.cli.exits import Exit
from peritus.cli.loop import Out, notice, run_async
from peritus.cli.observing import Place, here, observing
from peritus.jobs import load_state
from peritus.people import change_policy
from projections.family import load_family

Action = Literal["show", "add", "clear"]
VerdictName = Literal["allow", "ask", "deny"]

NO_RULES = "no rules: every call is allowed, and the sandbox is what bounds it\n"


def command(  # noqa: PLR0913 - one parameter an option
    run: options.Run,
    action: Annotated[
        Action, typer.Argument(metavar="[show|add|clear]", help="What to do; `show` by default.")
    ] = "show",
    verdict: Annotated[
        VerdictName | None,
        typer.Argument(metavar="[allow|ask|deny]", help="What a rule that is added says."),
    ] = None,
    *,
    expert: Annotated[str, typer.Option(help="Pattern for the expert.", metavar="PATTERN")] = ANY,
    skill: Annotated[str, typer.Option(help="Pattern for the skill.", metavar="PATTERN")] = ANY,
    tool: Annotated[str, typer.Option(help="Pattern for the tool.", metavar="PATTERN")] = ANY,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            help="Pattern for an argument, as `args.*=--force*`; may be given more than once.",
            metavar="PATH=PATTERN",
        ),
    ] = None,
    reason: options.Reason = "",
    config: options.Config = None,
    as_json: options.Json = None,
) -> None:
    """Show the rules about calls of a run, add one, or take back those that people gave it.

    Rules hold for the run and all under it; the newest comes first. Of all sources the strictest
    counts, but your `allow` answers an `ask`; nothing undoes a `deny` of a definition.
    """
    if (verdict is None) == (action == "add"):
        options.refuse("say it so: peritus policy RUN add allow|ask|deny --tool NAME")
    patterns = _patterns(arg)
    if action != "add" and (patterns or reason or {expert, skill, tool} != {ANY}):
        options.refuse(f"patterns and a reason are for add, not for {action}")
    place = here(config)
    if action == "show":
        raise typer.Exit(run_async(_show(place, run, as_json=options.wants_json(as_json))))
    rules: tuple[PolicyRule, ...] = ()
    if verdict is not None:
        rule = PolicyRule(
            verdict=verdict,
            expert=expert,
            skill=skill,
            tool=tool,
            arguments=patterns,
            reason=reason,
        )
        rules = (rule,)
    raise typer.Exit(run_async(_change(place, run, rules)))


def _patterns(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        path, equals, pattern = text.partition("=")
        if not equals or not path:
            options.refuse(f"{text!r} is not PATH=PATTERN, such as 'command=git'")
        if path in found:
            options.refuse(f"there are two patterns for {path!r}; add two rules")
        found[path] = pattern
    return found


async def _show(place: Place, run: str, *, as_json: bool) -> Exit:
    async with observing(place) as observer:
        ref = await observer.runs.find(run)
        state, _ = await load_state(observer.backbone.log, ref)
    out = Out()
    found = rules_of(state)
    if as_json:
        lines = [{"source": source, **rule.model_dump(mode="json")} for source, rule in found]
        await out.write(b"".join(map(_json_line, lines)))
    elif found:
        width = max(len(source) for source, _ in found)
        text = "".join(f"{source:<{width}}  {asks.rule_line(rule)}\n" for source, rule in found)
        await out.write(text)
    else:
        await out.write(NO_RULES)
    return Exit.COMPLETED


def _json_line(facts: dict[str, Any]) -> bytes:
    return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)


def rules_of(state: RunState) -> list[tuple[str, PolicyRule]]:
    """The rules that hold in a run, by where they come from, in the order they are looked at."""
    people = [("people", rule) for rule in state.rules]
    above = [("people, above", rule) for rule in state.rules_above]
    layers = [(layer.name, rule) for layer in state.layers for rule in layer.rules]
    return [*people, *above, *layers]


async def _change(place: Place, run: str, rules: tuple[PolicyRule, ...]) -> Exit:
    async with deciding(place, run) as at:
        family = await load_family(at.link.backbone.log, at.ref)
        await change_policy(at.send, at.ref, rules, replace=not rules)
        for rule in rules:
            notice(f"in run {at.ref.run} and under it: {asks.rule_line(rule)}")
            tools = {tool.name for look in family.looks.values() for tool in look.state.tools}
            if not set("*?[") & set(rule.tool) and rule.tool not in tools:
                notice(f"no run of this job has a tool {rule.tool!r} now")
        if not rules:
            notice(f"the rules that people gave run {at.ref.run} are taken back")
    return Exit.COMPLETED
