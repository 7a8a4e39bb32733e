"""What leaves a command for BLOBS, and what stays. Pure: nothing is stored here."""

from commands.offload import COMMAND_BYTES_MAX, TEXT_BYTES_MAX, offload
from domain.commands import CompleteGeneration, ContinueRun, RecordToolResult
from domain.content import BlobRef, CallPart, FilePart, TextPart, ThinkingPart
from domain.record import canonical, digest_of


def said(*texts: str) -> ContinueRun:
    return ContinueRun(id="k", parts=tuple(TextPart(text=text) for text in texts))


def test_small_command_stays_as_it_is() -> None:
    command = said("hello", "x" * TEXT_BYTES_MAX)
    assert offload(command) == (command, {})


def test_text_above_the_limit_goes_by_digest_and_the_others_stay() -> None:
    """Rule 13."""
    large = "\u00e9" * TEXT_BYTES_MAX
    slim, blobs = offload(said("hello", large))
    digest = digest_of(large.encode())
    assert blobs == {digest: large.encode()}
    assert slim.parts == (
        TextPart(text="hello"),
        TextPart(text=BlobRef(digest=digest, size=len(large.encode()))),
    )


def test_largest_texts_go_first_until_the_rest_fits() -> None:
    sizes = [10_000 + n for n in range(30)]
    slim, blobs = offload(said(*("x" * size for size in sizes)))
    kept = [p.text for p in slim.parts if isinstance(p, TextPart) and isinstance(p.text, str)]
    assert sum(map(len, kept)) <= COMMAND_BYTES_MAX
    assert max(map(len, kept)) < min(map(len, blobs.values()))
    assert len(canonical(slim)) < 2 * COMMAND_BYTES_MAX


def test_text_is_measured_as_it_is_stored() -> None:
    """A control character takes six bytes in an envelope."""
    _, blobs = offload(said("\x00" * 6_000))
    assert len(blobs) == 1


def test_every_place_of_a_text_is_looked_at() -> None:
    large = "x" * (TEXT_BYTES_MAX + 1)
    reply = CompleteGeneration(
        step=1,
        attempt=1,
        parts=(
            TextPart(text=large),
            ThinkingPart(provider="p", block=large + "1"),
            CallPart(provider_id="p", tool="t", arguments=large + "2"),
        ),
        stop_reason="end",
        usage=None,
    )
    assert len(offload(reply)[1]) == 3
    blob = BlobRef(digest="d" * 64, size=1)
    ended = RecordToolResult(
        call="c1-0",
        holder="e1",
        outcome="succeeded",
        content=(TextPart(text=blob), FilePart(blob=blob, name="x.png")),
        full_output=large,
    )
    assert len(offload(ended)[1]) == 1
