"""What is said of a secret that a definition file holds itself. Not how it is taken out."""

from domain.references import reference
from domain.secrets import unfit
from peritus.definitions.literals import Literal
from peritus.definitions.report import Report, place


def tell_literal(report: Report, found: Literal) -> None:
    """Tell of a secret in the file: it works, and a place for secrets would be better."""
    short = unfit(found.name, found.value)
    message = (
        f"{place(found.loc)} holds a secret: it stays out of definitions and the log, where it is "
        f"{found.name}, and only processes with this file have it; better keep it with "
        f"`peritus secrets set {found.name}` and write {reference(found.name)} in its place"
    )
    report.notice(found.loc, message if short is None else f"{message} ({short})")
