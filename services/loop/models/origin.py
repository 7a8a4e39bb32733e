"""Who made a block that only its maker can read. Not what is in such a block.

A run may go on with another model, or with another provider, in the middle. Signatures, encrypted
reasoning, citations and what tools at the provider found mean nothing to the others, or are refused
by them, so a block goes back to the model that made it and is dropped whole for all others (C19).
What is sent to a model therefore depends on that model and the conversation alone: each model sees
its own history begin as it did before, although others spoke in between (C20).
"""

from domain.content import ThinkingPart
from domain.limits import ModelChoice
from domain.record import canonical, digest_of


def origin_of(wire: str, choice: ModelChoice) -> str:
    """The maker as a block is marked with it: wire format, provider, model and where that is.

    The same model elsewhere (another address, account, project or region) is another maker: keys
    for encrypted content are not shared between those.
    """
    origin = f"{wire}:{choice.provider}/{choice.model}"
    if choice.base_url is None and not choice.settings:
        return origin
    place = digest_of(canonical([choice.base_url, sorted(choice.settings.items())]))
    return f"{origin}#{place[:8]}"


def made_by(part: ThinkingPart, origin: str) -> bool:
    """Whether a block may go to the model of that origin.

    Runs of before there was more than one model a run marked their blocks with the wire format
    alone: those go to any model of that format.
    """
    return part.provider in (origin, origin.partition(":")[0])
