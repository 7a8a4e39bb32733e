"""Which calls may run, which need a person, which never run: rules as data. Not who is asked.

Rules come in layers: the operator's, the definition's, the expert's, and what people said in the
run. In one layer the first rule that matches counts; of all layers the strictest verdict does. Only
a person's own word turns `ask` into `allow`, and nothing turns a `deny` of another layer into
anything else. A call that no rule matches is allowed: the sandbox is what bounds it.
"""

import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, cast

from pydantic import Field

from domain.record import Record

Verdict = Literal["allow", "ask", "deny"]

ANY = "*"


class PolicyRule(Record):
    """One rule. Every pattern is a glob (`*`, `?`, `[...]`) over the whole of what it looks at.

    `arguments` are patterns by path (`command`, `args.0`, `env.HOME`, `args.*`): all have to match,
    each on the text of that argument, or on its JSON where it is no text. An argument that is not
    there matches nothing. The empty path is all of them together, as `whole` has them.
    """

    verdict: Verdict
    expert: str = ANY
    skill: str = ANY
    tool: str = ANY
    arguments: dict[str, str] = Field(default_factory=dict[str, str])
    reason: str = ""  # told to the model when it is refused, and to the person who is asked


class PolicyLayer(Record):
    """Rules of one source, in the order they are looked at."""

    name: Literal["operator", "definition", "expert"]
    rules: tuple[PolicyRule, ...]


class Asked(NamedTuple):
    """A call as rules see it. `arguments` None: too long to be read here.

    `own`: what the tool's server calls it. A rule means it by either name, since a second server
    with a tool of that name gives both another one.
    """

    expert: str
    skill: str
    tool: str
    arguments: dict[str, Any] | None
    own: str = ""


class Judgement(NamedTuple):
    """What the rules say of a call, and why."""

    verdict: Verdict
    reason: str = ""


ALLOWED = Judgement("allow")
STRICTNESS: tuple[Verdict, ...] = ("allow", "ask", "deny")


def judge(layers: Iterable[PolicyLayer], people: Iterable[PolicyRule], asked: Asked) -> Judgement:
    """What the rules say of a call.

    Arguments that are too long to be read match every pattern of a rule that asks or denies, and
    no pattern of one that allows: what cannot be looked at is not waved through.
    """
    found = max(
        (_first(layer.rules, asked) or ALLOWED for layer in layers),
        key=lambda one: STRICTNESS.index(one.verdict),
        default=ALLOWED,
    )
    said = _first(people, asked)
    if said is None or found.verdict == "deny":
        return found
    if said.verdict == "allow":
        return said
    return max(found, said, key=lambda one: STRICTNESS.index(one.verdict))


def _first(rules: Iterable[PolicyRule], asked: Asked) -> Judgement | None:
    for rule in rules:
        if matches(rule, asked):
            return Judgement(rule.verdict, rule.reason)
    return None


def matches(rule: PolicyRule, asked: Asked) -> bool:
    """Whether a rule has a say in a call."""
    if not named(rule, asked):
        return False
    if asked.arguments is None:
        return not rule.arguments or rule.verdict != "allow"
    return all(
        _fits(rule.verdict, pattern, _found(asked.arguments, path))
        for path, pattern in rule.arguments.items()
    )


def named(rule: PolicyRule, asked: Asked) -> bool:
    """Whether a rule is about calls like this one, whatever their arguments are."""
    names = [asked.tool, *([asked.own] if asked.own else [])]
    return (
        fnmatchcase(asked.expert, rule.expert)
        and fnmatchcase(asked.skill, rule.skill)
        and any(fnmatchcase(name, rule.tool) for name in names)
    )


def _fits(verdict: Verdict, pattern: str, texts: list[str]) -> bool:
    """Where a path names several texts, all have to be allowed, and one is enough to object to."""
    fitting = [fnmatchcase(text, pattern) for text in texts]
    return bool(texts) and (all(fitting) if verdict == "allow" else any(fitting))


def _found(arguments: dict[str, Any], path: str) -> list[str]:
    return [*_texts(arguments, path.split("."))] if path else [whole(arguments)]


def whole(arguments: dict[str, Any]) -> str:
    """All arguments of a call as one text, the same in whatever order a model writes them."""
    return json.dumps(arguments, ensure_ascii=False, sort_keys=True)


def _texts(value: object, path: list[str]) -> Iterator[str]:
    """The texts at a path; `*` in it stands for every entry."""
    if not path:
        yield value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return
    head, rest = path[0], path[1:]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
    elif isinstance(value, list):
        entries = {str(at): one for at, one in enumerate(cast("list[object]", value))}
    else:
        return
    found = entries.values() if head == ANY else [entries[head]] if head in entries else []
    for inner in found:
        yield from _texts(inner, rest)


def literally(text: str) -> str:
    """A pattern that matches a text and nothing else."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
