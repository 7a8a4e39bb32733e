"""Images and documents for the model to see, and what an earlier call printed."""

import json
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.sandbox.capture import INLINE_BYTES_MAX
from services.sandbox.tools import pictures
from services.sandbox.tools.results import RESULT_BYTES_MAX
from tests.support.seats import RUN, Bench, answer, bench, call_of

pytestmark = [pytest.mark.anyio]

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n" + b"rest",
    "image/jpeg": b"\xff\xd8\xff\xe0rest",
    "image/gif": b"GIF89arest",
    "image/webp": b"RIFF\x04\0\0\0WEBPVP8 ",
}


@pytest.fixture
async def box(tmp_path: Path) -> AsyncGenerator[Bench]:
    async with bench(tmp_path) as opened:
        yield opened


def pdf(*contents: bytes, compressed: bool = False) -> bytes:
    """A document with a page for each content stream, as small as one can be."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, content in enumerate(contents):
        how = b" /Filter /FlateDecode" if compressed else b""
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(content), how, content))
    document = b"%PDF-1.4\n"
    places: list[int] = []
    for number, body in enumerate(objects, start=1):
        places.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return document + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (size, table, size, len(document))
    )


def text(said: str) -> bytes:
    return b"BT /F1 12 Tf 10 100 Td (%s) Tj ET" % said.encode()


@pytest.mark.parametrize("media_type", IMAGES)
async def test_an_image_is_what_its_bytes_say(box: Bench, tmp_path: Path, media_type: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/picture.txt").write_bytes(IMAGES[media_type])
    result = await box.run(call_of("readImageFile", '{"path": "d/picture.txt"}'))
    size = len(IMAGES[media_type])
    assert answer(result) == {"path": "d/picture.txt", "mimeType": media_type, "size": size}
    (file,) = result.files
    shown = (file.name, file.media_type, file.data)
    assert shown == ("picture.txt", media_type, IMAGES[media_type])


async def test_what_is_no_image_or_document_is_not_shown(
    box: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.png").write_bytes(b"<svg onload=alert(1)>")
    (tmp_path / "a.pdf").write_bytes(pdf(text("x")))
    (tmp_path / "out.png").symlink_to("/etc/passwd")
    assert (await box.failed("readImageFile", path="evil.png"))["error"] == "not_an_image"
    assert (await box.failed("readImageFile", path="a.pdf"))["error"] == "not_an_image"
    assert (await box.failed("readPdfFile", path="evil.png"))["error"] == "not_a_pdf"
    assert (await box.failed("readImageFile", path="out.png"))["error"] == "outside_workspace"
    monkeypatch.setattr(pictures, "PDF_BYTES_MAX", 10)
    assert (await box.failed("readPdfFile", path="a.pdf"))["error"] == "too_large"


async def test_reading_one_as_text_names_the_tool_for_it(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(IMAGES["image/png"])
    (tmp_path / "b").write_bytes(b"%PDF-1.4\n\xff")
    assert "readImageFile" in (await box.failed("readTextFile", path="a"))["message"]
    assert "readPdfFile" in (await box.failed("readTextFile", path="b"))["message"]


async def test_a_document_comes_with_its_text(box: Bench, tmp_path: Path) -> None:
    content = pdf(text("first page"), text("second page"))
    (tmp_path / "a.pdf").write_bytes(content)
    result = await box.run(call_of("readPdfFile", '{"path": "a.pdf"}'))
    said = answer(result)
    assert (said["mimeType"], said["pages"]) == ("application/pdf", 2)
    assert said["text"] == "--- page 1 ---\nfirst page\n--- page 2 ---\nsecond page\n"
    (file,) = result.files
    assert (file.name, file.media_type, file.data) == ("a.pdf", "application/pdf", content)


async def test_a_long_text_of_a_document_can_be_read_on(box: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(*[text("x" * 4000) for _ in range(10)]))
    said = await box.done("readPdfFile", path="a.pdf")
    assert said["truncated"] is True
    assert len(said["text"]) == INLINE_BYTES_MAX
    whole = await box.done("readResult", call="c1-0", unit="bytes", **{"from": INLINE_BYTES_MAX})
    assert whole["to"] == whole["totalBytes"] > 40_000


@pytest.mark.parametrize(
    "document",
    [
        b"%PDF-1.4\nnothing of the kind",
        pdf(b""),
        pdf(zlib.compress(b"\0" * 600_000_000), compressed=True),
        pdf(text("x")).replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"),
    ],
    ids=["broken", "empty", "bomb", "circle"],
)
async def test_a_document_without_text_to_be_had_is_shown_nevertheless(
    box: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: bytes
) -> None:
    monkeypatch.setattr(pictures, "EXTRACT_S", 10)
    (tmp_path / "a.pdf").write_bytes(document)
    result = await box.run(call_of("readPdfFile", '{"path": "a.pdf"}'))
    assert "no text" in answer(result)["note"]
    assert [file.data for file in result.files] == [document]


async def test_results_are_read_by_lines_and_by_bytes_and_say_how_many(box: Bench) -> None:
    box.outputs[RUN, "c4-0"] = "one\r\ntwö\nthree".encode()
    assert await box.done("readResult", call="c4-0") == {
        "call": "c4-0",
        "content": "one\r\ntwö\nthree",
        "from": 0,
        "to": 3,
        "totalLines": 3,
        "totalBytes": 15,
    }
    part = await box.done("readResult", call="c4-0", **{"from": 1, "to": 2})
    assert part["content"] == "twö\n"
    part = await box.done("readResult", call="c4-0", unit="bytes", **{"from": 5, "to": 7})
    assert (part["content"], part["from"], part["to"]) == ("tw", 5, 7)
    past = await box.done("readResult", call="c4-0", **{"from": 99})
    assert (past["content"], past["to"]) == ("", 3)
    wrong = await box.failed("readResult", call="c4-0", **{"from": 2, "to": 1})
    assert wrong["error"] == "invalid_arguments"


async def test_a_long_result_says_where_to_read_on_until_it_is_whole(box: Bench) -> None:
    box.outputs[RUN, "c4-0"] = whole = b"".join(b"line %d\n" % number for number in range(20_000))
    read, at = "", 0
    for _ in range(10):
        said = await box.done("readResult", call="c4-0", **{"from": at})
        read += said["content"]
        at = said["to"]
        if not said.get("truncated"):
            break
        assert said["more"] == f"read on from {at}"
    assert read == whole.decode()


async def test_a_line_that_does_not_fit_is_read_by_bytes(box: Bench) -> None:
    line = "x" * (2 * RESULT_BYTES_MAX)
    box.outputs[RUN, "c4-0"] = f"one\n{line}\n".encode()
    assert (await box.done("readResult", call="c4-0"))["to"] == 1
    said = await box.failed("readResult", call="c4-0", **{"from": 1})
    assert said["error"] == "too_large"
    assert "from 4" in said["message"]
    part = await box.done("readResult", call="c4-0", unit="bytes", **{"from": 4})
    assert part["content"] == "x" * RESULT_BYTES_MAX


async def test_no_run_reads_the_results_of_another(box: Bench) -> None:
    box.outputs[RUN, "c4-0"] = b"mine"
    assert (await box.as_run("another", "readResult", call="c4-0"))["error"] == "no_result"
    assert (await box.failed("readResult", call="c9-9"))["error"] == "no_result"
    assert json.dumps(await box.done("readResult", call="c4-0")).count("mine") == 1
