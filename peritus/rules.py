"""What this process makes of files with rules and teams: the operator's, and a model's. No run."""

import tempfile
from pathlib import Path

from domain.definition import Definition
from domain.errors import Rejected
from domain.policy import PolicyRule
from peritus.definitions import DefinitionError, Operator, load_definition
from peritus.definitions.include import read_whole
from peritus.definitions.policy import read_policy
from peritus.definitions.report import Report
from peritus.definitions.sources import read_source

PROBLEM_CHARS_MAX = 4_000

NO_PRICE = '[prices."scripted/*"]\ninput = 0\noutput = 0\n'
"""A budget in a model's file needs a price of every model, and its experts get others anyway."""


def operator_rules(path: Path | None) -> tuple[PolicyRule, ...]:
    """The rules of the operator's file, in their order.

    Raises:
        DefinitionError: the file cannot be read or is wrong; every violation has its line.
    """
    if path is None:
        return ()
    source = read_source(path)
    report = Report(source.shown)
    content = read_whole(report, source).content
    for key in content:
        if key != "policy":
            report.error((key,), f"{key!r} is no key of a file of rules: write [[policy]] tables")
    rules = read_policy(report, content.get("policy"), ("policy",))
    report.check()
    return rules


def parse_definition(text: str) -> Definition:
    """The definition in a file that a model wrote; it may include no other.

    Raises:
        Rejected: it is wrong; the message has every violation with its line.
    """
    with tempfile.TemporaryDirectory(prefix="peritus-team-") as folder:
        path, script, prices = (
            Path(folder) / name for name in ("perstack.toml", "script.toml", "prices.toml")
        )
        path.write_text(text, encoding="utf-8")
        script.touch()
        prices.write_text(NO_PRICE)
        try:
            return load_definition(
                path,
                provider="scripted",
                model=str(script),
                operator=Operator(prices_file=prices),
            ).definition
        except DefinitionError as error:
            said = str(error).replace(f"{folder}/", "")[:PROBLEM_CHARS_MAX]
            raise Rejected("bad_definition", said) from None
