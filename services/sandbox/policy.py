"""What a run may do in its sandbox: the definition's wish within the operator's word. No mechanism.

A definition can ask for less than the operator allows, and be told what it may not have. Nothing a
model says or a workspace holds has a say in it.
"""

from dataclasses import dataclass

from domain.definition import Expert, sandbox_of
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
    wanted = sandbox_of(expert)
    _check_image(expert, wanted, operator)
    _check_deliveries(expert, wanted, operator)
    return Allowance(
        limits=(wanted.limits or operator.limits).at_most(operator.limits),
        read_only=wanted.read_only,
        isolated=wanted.workspace == "isolated",
        image=wanted.image,
        egress=_egress(expert, wanted, operator),
        secrets=tuple(grant for grant in wanted.secrets if grant.deliver != "egress"),
    )


def _check_image(expert: Expert, wanted: SandboxSettings, operator: OperatorPolicy) -> None:
    if wanted.image is None or wanted.image in operator.images:
        return
    known = ", ".join(operator.images) or "none"
    message = (
        f"expert {expert.key!r} asks for the image {wanted.image!r}, which the operator does not "
        f"allow; PERITUS_SANDBOX_IMAGES allows: {known}"
    )
    raise SandboxUnavailable(message)


def _check_deliveries(expert: Expert, wanted: SandboxSettings, operator: OperatorPolicy) -> None:
    for grant in wanted.secrets:
        if grant.name in operator.never or grant.name.startswith(OURS):
            message = (
                f"expert {expert.key!r} wants {grant.name!r}, which is a key of a model provider, "
                "of Peritus itself or of all other secrets; such keys never enter a sandbox: give "
                "the tool a key of its own under another name"
            )
            raise SandboxUnavailable(message)
        if grant.deliver not in operator.deliveries:
            message = (
                f"expert {expert.key!r} wants secret {grant.name!r} as {grant.deliver!r}; "
                f"PERITUS_SECRET_DELIVERY allows: {', '.join(operator.deliveries)}"
            )
            raise SandboxUnavailable(message)


def _egress(
    expert: Expert, wanted: SandboxSettings, operator: OperatorPolicy
) -> EgressPolicy | None:
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
            f"expert {expert.key!r} may not reach {', '.join(refused)}: PERITUS_EGRESS_DOMAINS "
            f"allows {', '.join(operator.egress or ()) or 'nothing'}"
        )
        raise SandboxUnavailable(message)
    try:
        return EgressPolicy.of(wanted)
    except ValueError as error:
        message = f"expert {expert.key!r} asks for a host that is none: {error}"
        raise SandboxUnavailable(message) from None
