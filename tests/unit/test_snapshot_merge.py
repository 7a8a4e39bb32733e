"""What a merge of two workspaces plans, as a pure function of three trees."""

from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.snapshots.apply import Steps
from services.sandbox.snapshots.merge import Plan, Policy, plan_merge
from services.sandbox.snapshots.tree import Entry, Tree, in_walk_order, parent_of

POLICIES: tuple[Policy, ...] = ("fail", "ours", "theirs")


def file(path: str, content: str = "1", mode: int = 0o644) -> Entry:
    return Entry(path.encode(), "file", mode, len(content), content)


def folder(path: str, mode: int = 0o755) -> Entry:
    return Entry(path.encode(), "folder", mode)


def tree(*entries: Entry) -> Tree:
    return in_walk_order(entries)


def done(steps: Steps, before: Tree) -> Tree:
    """What `apply` would leave of a tree, checked to be a tree at every step."""
    found = dict(before)
    for path in steps.clear:
        for other in list(found):
            if other == path or other.startswith(path + b"/"):
                del found[other]
    for entry in steps.make:
        parent = parent_of(entry.path)
        assert not parent or found[parent].kind == "folder"
        there = found.get(entry.path)
        assert there is None or "folder" not in {there.kind, entry.kind}
        found[entry.path] = entry
    for entry in steps.remove:
        assert not any(other.startswith(entry.path + b"/") for other in found)
        del found[entry.path]
    for path, mode in steps.modes:
        found[path] = found[path]._replace(mode=mode)
    return in_walk_order(found.values())


def test_what_only_they_changed_is_taken_over() -> None:
    base = tree(file("kept"), file("changed"), file("gone"))
    theirs = tree(file("kept"), file("changed", "2"), folder("new"), file("new/f"))
    ours = tree(file("kept"), file("changed"), file("gone"), file("mine"))
    plan = plan_merge(base, theirs, ours)
    assert plan.conflicts == ()
    expected = tree(file("kept"), file("changed", "2"), folder("new"), file("new/f"), file("mine"))
    assert done(plan.steps, ours) == expected


def test_a_conflict_fails_or_keeps_ours_or_takes_theirs() -> None:
    base, theirs, ours = (
        tree(file("a", n), file("b", m)) for n, m in (("1", "1"), ("2", "2"), ("3", "1"))
    )
    results: dict[Policy, Tree] = {
        "fail": ours,
        "ours": tree(file("a", "3"), file("b", "2")),
        "theirs": theirs,
    }
    for policy, expected in results.items():
        plan = plan_merge(base, theirs, ours, policy)
        assert [conflict.path for conflict in plan.conflicts] == [b"a"]
        assert done(plan.steps, ours) == expected


def test_the_same_change_twice_is_no_conflict() -> None:
    changed = tree(file("a", "2"))
    assert plan_merge(tree(file("a")), changed, changed) == Plan(Steps(), ())


def test_a_mode_alone_is_changed_without_writing_the_file() -> None:
    plan = plan_merge(tree(file("a")), tree(file("a", mode=0o755)), tree(file("a")))
    assert plan.steps.make == []
    assert plan.steps.modes == [(b"a", 0o755)]


def test_a_folder_they_removed_stays_with_what_we_put_there() -> None:
    base = tree(folder("d"), file("d/a"))
    ours = tree(folder("d"), file("d/a"), file("d/new"))
    plan = plan_merge(base, tree(), ours, "ours")
    assert [conflict.path for conflict in plan.conflicts] == [b"d"]
    assert done(plan.steps, ours) == tree(folder("d"), file("d/new"))
    assert done(plan_merge(base, tree(), ours, "theirs").steps, ours) == {}


def test_a_conflict_in_a_folder_they_removed_is_said_once() -> None:
    base = tree(folder("d"), folder("d/e"), file("d/e/a"))
    ours = tree(folder("d"), folder("d/e"), file("d/e/a", "2"))
    plan = plan_merge(base, tree(), ours, "ours")
    assert [conflict.path for conflict in plan.conflicts] == [b"d/e/a"]
    assert done(plan.steps, ours) == ours


def test_a_folder_where_we_have_a_file_is_one_conflict() -> None:
    theirs = tree(folder("x"), file("x/a"), folder("x/y"), file("x/y/b"))
    ours = tree(file("x"))
    plan = plan_merge(tree(), theirs, ours, "ours")
    assert [conflict.path for conflict in plan.conflicts] == [b"x"]
    assert done(plan.steps, ours) == ours
    assert done(plan_merge(tree(), theirs, ours, "theirs").steps, ours) == theirs


def test_what_they_put_into_a_folder_we_removed_is_a_conflict() -> None:
    base = tree(folder("d"))
    theirs = tree(folder("d"), file("d/a"))
    plan = plan_merge(base, theirs, tree(), "ours")
    assert [conflict.path for conflict in plan.conflicts] == [b"d/a"]
    assert done(plan_merge(base, theirs, tree(), "theirs").steps, tree()) == theirs


def test_a_folder_becomes_a_file_only_if_nothing_of_ours_is_in_it() -> None:
    base, theirs = tree(folder("d"), file("d/a")), tree(file("d"))
    assert done(plan_merge(base, theirs, base).steps, base) == theirs
    ours = tree(folder("d"), file("d/a"), file("d/b"))
    plan = plan_merge(base, theirs, ours, "ours")
    assert [conflict.path for conflict in plan.conflicts] == [b"d"]
    assert done(plan.steps, ours) == tree(folder("d"), file("d/b"))


def test_content_nobody_has_is_a_conflict() -> None:
    theirs = tree(Entry(b"a", "file", 0o644, 9, missing="withheld: KEY"))
    plan = plan_merge(tree(), theirs, tree(), "ours")
    assert [conflict.path for conflict in plan.conflicts] == [b"a"]
    assert not plan.steps


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Small trees over few names, so that they meet often."""
    entries: list[Entry] = []
    folders = [""]
    while folders:
        prefix = folders.pop()
        for name in draw(st.sets(st.sampled_from("abc"), max_size=3)):
            path = prefix + name
            kind = draw(st.sampled_from(("file", "file", "folder", "link")))
            if kind == "folder" and path.count("/") < 2:
                entries.append(folder(path, draw(st.sampled_from((0o755, 0o500)))))
                folders.append(f"{path}/")
            elif kind == "link":
                entries.append(
                    Entry(path.encode(), "link", target=draw(st.sampled_from((b"x", b"y"))))
                )
            else:
                entries.append(file(path, draw(st.sampled_from("12"))))
    return in_walk_order(entries)


@given(trees(), trees())
def test_with_nothing_of_ours_the_result_is_theirs(base: Tree, theirs: Tree) -> None:
    plan = plan_merge(base, theirs, base)
    assert plan.conflicts == ()
    assert done(plan.steps, base) == theirs


@given(trees(), trees())
def test_with_nothing_of_theirs_nothing_happens(base: Tree, ours: Tree) -> None:
    for policy in POLICIES:
        assert plan_merge(base, base, ours, policy) == Plan(Steps(), ())


@given(trees(), trees(), trees())
def test_every_merge_leaves_a_tree_and_is_the_same_twice(
    base: Tree, theirs: Tree, ours: Tree
) -> None:
    for policy in POLICIES:
        plan = plan_merge(base, theirs, ours, policy)
        merged = done(plan.steps, ours)
        again = plan_merge(base, theirs, merged, policy)
        assert not again.steps
        assert {c.path for c in again.conflicts} <= {c.path for c in plan.conflicts}


@given(trees(), trees(), trees())
def test_if_theirs_win_all_they_changed_is_theirs(base: Tree, theirs: Tree, ours: Tree) -> None:
    merged = done(plan_merge(base, theirs, ours, "theirs").steps, ours)
    for path in base.keys() | theirs.keys():
        if base.get(path) != theirs.get(path):
            assert merged.get(path) == theirs.get(path)


@given(trees(), trees(), trees())
def test_if_ours_win_nothing_we_changed_is_lost(base: Tree, theirs: Tree, ours: Tree) -> None:
    merged = done(plan_merge(base, theirs, ours, "ours").steps, ours)
    for path, entry in ours.items():
        if base.get(path) != entry:
            assert merged.get(path) == entry
