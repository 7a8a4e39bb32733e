"""What a run may do in its sandbox: the definition's wish within the operator's word. No mechanism.

A definition can ask for less than the operator allows, and be told what it may not have. Nothing a
model says or a workspace holds has a say in it.
"""

from dataclasses import dataclass

from domain.definition import Expert, McpStdioSkill, sandbox_of
from domain.record import Record, canonical, digest_of
from domain.sandbox import Delivery, SandboxLimits, SandboxSettings, SecretGrant, covers
from services.sandbox.egress.policy import EgressPolicy
from services.sandbox.failures import SandboxUnavailable

OURS = "PERITUS_"
"""How the names of our own tokens begin."""


class OperatorPolicy(Record):
    """What an operator allows every sandbox. `egress` None: whatever definitions ask for."""

    limits: SandboxLimits = SandboxLimits()
    images: tuple[str, ...] = ()
    egress: tuple[str, ...] | None = None
    deliveries: tuple[Delivery, ...] = ("egress", "file", "env")
    never: tuple[str, ...] = ()  # secrets no sandbox gets: the keys of models
    snapshots: bool = True


@dataclass(frozen=True, slots=True)
class Allowance:
    """One expert's sandbox, settled. Equal allowances share a sandbox within a room."""

    limits: SandboxLimits
    read_only: bool
    isolated: bool
    image: str | None
    egress: EgressPolicy | None
    secrets: tuple[SecretGrant, ...]  # delivered as files and variables

    @property
    def digest(self) -> str:
        """Names what a sandbox of this kind may do."""
        egress = canonical(self.egress) if self.egress else b""
        grants = b"".join(map(canonical, self.secrets))
        plain = canonical([self.read_only, self.image])
        return digest_of(canonical(self.limits) + egress + grants + plain)


def allow(expert: Expert, operator: OperatorPolicy) -> Allowance:
    """What an expert gets.

    Raises:
        SandboxUnavailable: it asks for what the operator does not allow; the message says what.
    """
    return _settled(f"expert {expert.key!r}", sandbox_of(expert), operator)


def allow_skill(
    expert: Expert, name: str, skill: McpStdioSkill, operator: OperatorPolicy
) -> Allowance:
    """What the server of an expert's skill gets: of the expert's own, only what it needs not ask.

    It reaches the skill's domains, not the expert's, and gets the secrets the skill requires, as
    variables; where the expert has one of them delivered at egress, its stand-in.

    Raises:
        SandboxUnavailable: it asks for what the operator does not allow; the message says what.
    """
    who, own = f"skill {name!r} of expert {expert.key!r}", sandbox_of(expert)
    stand_ins = {grant.name: grant for grant in own.secrets if grant.deliver == "egress"}
    grants = [
        stand_ins.get(variable, SecretGrant(name=variable))
        for variable in dict.fromkeys(skill.required_env)
    ]
    lost = [grant.name for grant in grants if grant.deliver == "egress"]
    if lost and not skill.allowed_domains:
        message = (
            f"{who} requires {', '.join(lost)}, which the expert has delivered at egress, but "
            "reaches no host: give the skill allowedDomains, or deliver it as 'env'"
        )
        raise SandboxUnavailable(message)
    domains = (domain.lower() for domain in skill.allowed_domains)
    wanted = own.model_copy(
        update={
            "allowed_domains": tuple(dict.fromkeys(domains)),
            "secrets": tuple(grants),
            "read_only": own.read_only and not skill.shared,  # then it is not the workspace
        }
    )
    return _settled(who, wanted, operator)


def _settled(who: str, wanted: SandboxSettings, operator: OperatorPolicy) -> Allowance:
    _check_image(who, wanted, operator)
    _check_deliveries(who, wanted, operator)
    return Allowance(
        limits=(wanted.limits or operator.limits).at_most(operator.limits),
        read_only=wanted.read_only,
        isolated=wanted.workspace == "isolated",
        image=wanted.image,
        egress=_egress(who, wanted, operator),
        secrets=tuple(grant for grant in wanted.secrets if grant.deliver != "egress"),
    )


def _check_image(who: str, wanted: SandboxSettings, operator: OperatorPolicy) -> None:
    if wanted.image is None or wanted.image in operator.images:
        return
    known = ", ".join(operator.images) or "none"
    message = (
        f"{who} asks for the image {wanted.image!r}, which the operator does not "
        f"allow; PERITUS_SANDBOX_IMAGES allows: {known}"
    )
    raise SandboxUnavailable(message)


def _check_deliveries(who: str, wanted: SandboxSettings, operator: OperatorPolicy) -> None:
    for grant in wanted.secrets:
        if grant.name in operator.never or grant.name.startswith(OURS):
            message = (
                f"{who} wants {grant.name!r}, which is a key of a model provider, "
                "of Peritus itself or of all other secrets; such keys never enter a sandbox: give "
                "the tool a key of its own under another name"
            )
            raise SandboxUnavailable(message)
        if grant.deliver not in operator.deliveries:
            message = (
                f"{who} wants secret {grant.name!r} as {grant.deliver!r}; "
                f"PERITUS_SECRET_DELIVERY allows: {', '.join(operator.deliveries)}"
            )
            raise SandboxUnavailable(message)


def _egress(who: str, wanted: SandboxSettings, operator: OperatorPolicy) -> EgressPolicy | None:
    if not wanted.allowed_domains:
        return None
    refused = [
        domain
        for domain in wanted.allowed_domains
        if operator.egress is not None
        and not any(allowed == "*" or covers(allowed, domain) for allowed in operator.egress)
    ]
    if refused:
        message = (
            f"{who} may not reach {', '.join(refused)}: PERITUS_EGRESS_DOMAINS "
            f"allows {', '.join(operator.egress or ()) or 'nothing'}"
        )
        raise SandboxUnavailable(message)
    try:
        return EgressPolicy.of(wanted)
    except ValueError as error:
        message = f"{who} asks for a host that is none: {error}"
        raise SandboxUnavailable(message) from None
