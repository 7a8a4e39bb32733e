"""What an expert's tables `sandbox` and `secrets` amount to. Not what an operator allows of it."""

from collections.abc import Iterable, Mapping
from typing import cast

from domain.definition import BASE_SKILL, BaseSkill, Skill
from domain.sandbox import SandboxLimits, SandboxSettings, SecretGrant, covers
from domain.secrets import SECRET_NAME
from peritus.definitions.lines import Loc
from peritus.definitions.report import Report, place
from peritus.definitions.schema import SandboxTable, SecretTable

_LIMITS: Mapping[str, str] = {
    "memory": "memory_bytes",
    "cpus": "cpus",
    "processes": "processes",
    "open_files": "open_files",
    "file_size": "file_bytes",
    "tmp_size": "tmp_bytes",
    "workspace_size": "workspace_bytes",
    "workspace_files": "workspace_files",
}
"""The keys that are limits, and the fields they set."""


def read_sandbox(
    report: Report,
    raw: Mapping[str, object],
    skills: Mapping[str, Skill] | None,
    expert: Loc,
) -> SandboxSettings | None:
    """The sandbox of an expert whose table is `raw`; None if it is wrong and reported.

    The skills are asked for their domains only; None skips the checks that need them.
    """
    table = report.read(SandboxTable, raw.get("sandbox", {}), (*expert, "sandbox"))
    secrets = _secrets(report, raw.get("secrets", {}), (*expert, "secrets"))
    if table is None or secrets is None:
        return None
    if skills is not None:
        base = skills.get(BASE_SKILL)
        of_skill = base.allowed_domains if isinstance(base, BaseSkill) else ()
        _check_hosts(report, secrets, (*table.allowed_domains, *of_skill), (*expert, "secrets"))
    given = {
        field: value for key, field in _LIMITS.items() if (value := getattr(table, key)) is not None
    }
    usual = SandboxSettings()
    return SandboxSettings(
        limits=SandboxLimits(**given) if given else None,
        image=table.image,
        read_only=table.read_only,
        workspace=table.workspace,
        allowed_domains=tuple(table.allowed_domains),
        egress_bytes_max=table.egress_bytes or usual.egress_bytes_max,
        egress_bytes_per_s=table.egress_rate or usual.egress_bytes_per_s,
        secrets=secrets,
    )


def _secrets(report: Report, raw: object, loc: Loc) -> tuple[SecretGrant, ...] | None:
    """The grants, sorted by name."""
    if not isinstance(raw, dict):
        report.error(loc, f"{place(loc)} must be a table")
        return None
    tables = cast("dict[str, object]", raw)
    grants = [_secret(report, name, tables[name], (*loc, name)) for name in sorted(tables)]
    whole = tuple(grant for grant in grants if grant is not None)
    return whole if len(whole) == len(grants) else None


def _secret(report: Report, name: str, raw: object, loc: Loc) -> SecretGrant | None:
    if SECRET_NAME.fullmatch(name) is None:
        report.error(loc, f"{name!r} cannot name a secret: use letters, digits and '_'")
        return None
    table = report.read(SecretTable, raw, loc)
    if table is None:
        return None
    if table.deliver == "egress" and not table.hosts:
        message = (
            f"{place(loc)} needs 'hosts', the only ones the value is sent to; "
            'or say deliver = "file" or "env" to let every command read it'
        )
        report.error(loc, message)
        return None
    if table.deliver != "egress" and table.hosts:
        message = (
            f"{place(loc)}: 'hosts' cannot hold back a secret with deliver = "
            f'"{table.deliver}", which every command can read; say deliver = "egress"'
        )
        report.error((*loc, "hosts"), message)
        return None
    return SecretGrant(name=name, deliver=table.deliver, hosts=tuple(table.hosts))


def _check_hosts(
    report: Report, secrets: Iterable[SecretGrant], allowed: tuple[str, ...], loc: Loc
) -> None:
    """A host the sandbox may not reach can be sent no secret."""
    for secret in secrets:
        for index, host in enumerate(secret.hosts):
            if not any(covers(pattern, host) for pattern in allowed):
                message = f"{host!r} cannot be reached: add it to 'allowedDomains' of the sandbox"
                report.error((*loc, secret.name, "hosts", index), message)
