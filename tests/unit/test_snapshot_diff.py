"""What is said of two trees and of two texts."""

import pytest

from services.sandbox.snapshots.diff import DIFF_BYTES_MAX, LINES_MAX, diff, text_diff
from services.sandbox.snapshots.tree import Entry, in_walk_order


def test_each_change_is_named_in_walk_order() -> None:
    before = in_walk_order(
        [
            Entry(b"a", "folder", 0o755),
            Entry(b"a/gone", "file", 0o644, 3, "1"),
            Entry(b"a.b", "file", 0o644, 3, "1"),
            Entry(b"same", "link", target=b"x"),
            Entry(b"z", "file", 0o644, 3, "1"),
        ]
    )
    after = in_walk_order(
        [
            Entry(b"a", "folder", 0o700),
            Entry(b"a/new", "file", 0o644, 3, "1"),
            Entry(b"a.b", "file", 0o644, 4, "2"),
            Entry(b"same", "link", target=b"x"),
            Entry(b"z", "link", target=b"3"),
        ]
    )
    changes = diff(before, after)
    assert [(change.path, change.what) for change in changes] == [
        (b"a", "mode"),
        (b"a/gone", "removed"),
        (b"a/new", "added"),
        (b"a.b", "changed"),
        (b"z", "changed"),
    ]
    assert [(c.before.size, c.after.size) for c in changes if c.before and c.after][1] == (3, 4)
    assert diff(before, before) == []


def test_a_text_is_compared_line_by_line() -> None:
    assert text_diff(b"f", b"a\nb\n", b"a\nc\n") == (
        "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    )


def test_a_file_that_comes_or_goes_is_compared_with_nothing() -> None:
    assert text_diff(b"f", None, b"a") == (
        "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n"
    )
    assert text_diff(b"f", b"a\n", None).startswith("--- a/f\n+++ /dev/null\n")


@pytest.mark.parametrize("data", [b"\0", b"a\xff", b"\xc3"])
def test_what_is_no_text_is_called_binary(data: bytes) -> None:
    assert text_diff(b"\xff", data, b"x") == (
        f"binary file \\xff differs: {len(data)} and 1 bytes\n"
    )


def test_a_diff_has_bounds() -> None:
    long = b"".join(b"%d\n" % number for number in range(50_000))
    assert "too many lines" in text_diff(b"f", b"x\n", long)
    assert text_diff(b"f", long + b"1\n", long + b"2\n").count("\n") == 8
    assert "too large" in text_diff(b"f", b"x", b"a" * 1_000_000)
    wide = text_diff(b"f", None, (b"a" * 99 + b"\n") * (LINES_MAX - 1))
    assert len(wide) < DIFF_BYTES_MAX + 200
    assert wide.endswith("bytes of differences\n")
