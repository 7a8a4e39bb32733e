"""The limits a job starts with, from file and flags. Not how they are enforced."""

from collections.abc import Mapping
from typing import TypedDict

from pydantic import ValidationError

from domain.errors import Rejected
from domain.limits import Limits
from peritus.definitions.amounts import PLAIN
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report
from peritus.definitions.schema import FileTable, LimitsTable

_FORMER = {
    "maxSteps": "stepsMax",
    "maxRetries": "generationAttemptsMax",
    "timeout": "generationTimeoutMs",
}

_SOFT = (("tokens_soft", "tokens_max"), ("money_soft", "money_max"))
"""Limits at which a person is asked, and those at which a run ends."""


class LimitOverrides(TypedDict, total=False):
    """Limits a caller sets above the file; None is the same as not given. Money is in micro-USD."""

    steps_max: int | None
    generation_attempts_max: int | None
    call_attempts_max: int | None
    conflicts_max: int | None
    calls_per_step_max: int | None
    depth_max: int | None
    generation_timeout_ms: int | None
    call_timeout_ms: int | None
    cancel_grace_ms: int | None
    retry_base_ms: int | None
    retry_max_ms: int | None
    tokens_max: int | None
    tokens_soft: int | None
    money_max: int | None
    money_soft: int | None
    tool_calls_max: int | None
    wall_ms_max: int | None
    fan_out_max: int | None
    rate_limited_attempts_max: int | None
    answer_ms_max: int | None


def check_overrides(overrides: Mapping[str, object]) -> dict[str, int]:
    """The limits that are really given.

    Raises:
        Rejected: one is out of its range.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        LimitsTable.model_validate(given, by_alias=False, by_name=True, context=PLAIN)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
            for detail in error.errors(include_url=False)
        )
        raise Rejected(code="bad_limit", message=wrong) from None
    return {name: value for name, value in given.items() if isinstance(value, int)}


def read_limits(report: Report, file: FileTable, overrides: Mapping[str, int]) -> Limits | None:
    """The limits of a file under those of a caller; None if they are wrong and reported."""
    loc: Loc = ("limits",)
    raw = file.limits or {}
    table = report.read(LimitsTable, raw, loc)
    former = {
        "steps_max": file.max_steps,
        "generation_attempts_max": None if file.max_retries is None else file.max_retries + 1,
        "generation_timeout_ms": file.timeout,
    }
    for old, new in _FORMER.items():
        if new in raw and getattr(file, _field(old)) is not None:
            report.error((*loc, new), f"{new!r} and {old!r} set the same limit: keep one of them")
    if table is None:
        return None
    meant = {name: value for name, value in former.items() if value is not None}
    limits = Limits(**{**meant, **table.model_dump(exclude_unset=True)})
    limits = limits.model_copy(update=dict(overrides))
    _check_pairs(report, limits, loc)
    return limits


def _check_pairs(report: Report, limits: Limits, loc: Loc) -> None:
    if limits.retry_max_ms < limits.retry_base_ms:
        message = "retryMaxMs must not be below retryBaseMs"
        report.error((*loc, "retryMaxMs"), message)
    for soft, hard in _SOFT:
        below, most = getattr(limits, soft), getattr(limits, hard)
        if below is not None and most is not None and below > most:
            names = [str(LimitsTable.model_fields[name].alias) for name in (soft, hard)]
            report.error((*loc, names[0]), f"{names[0]} must not be above {names[1]}")


def _field(key: str) -> str:
    return next(name for name, field in FileTable.model_fields.items() if field.alias == key)
