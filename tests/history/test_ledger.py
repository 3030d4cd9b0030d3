"""The ledger: records are added and never replaced, and those of two machines become one."""

import subprocess
import threading
import time

import pytest
from checkouts import git

from components.base.errors import UserError
from flows.history import decisions, ledger, legacy, store
from flows.registry import aliases


@pytest.fixture
def root(tmp_path):
    return repository(tmp_path / "one")


def repository(folder):
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--allow-empty", "-m", "x")
    (folder / ".stillroom").mkdir()
    return folder


def append(root, key="k", kind="run", files=None, **body):
    return ledger.append(root, ledger.read(root), kind, key, {**body, "files": sorted(files or {})}, files)


def test_records_come_back_in_order_with_their_files(root):
    held = {"params.yaml": b"a: 1\n", "data/source.json": b"\xff\n\n"}
    first = append(root, text="ü", files=held)
    second = append(root, key="other")
    assert ledger.read(root) == [first, second]
    assert list(ledger.files(root, [second, first])) == [
        {},
        {"params.yaml": b"a: 1\n", "data/source.json": b"\xff\n\n"},
    ]
    assert git(root, "for-each-ref", "refs/heads").count("\n") == 1


def test_writing_a_record_again_changes_nothing(root):
    for _ in range(2):
        ledger.write(root, "run", "k", 1, 5, {"a": 1})
    assert len(ledger.read(root)) == 1


def test_thirty_writers_at_once_lose_nothing(root):
    trees = [root, *(root.parent / f"tree{at}" for at in range(2))]
    for tree in trees[1:]:
        git(root, "worktree", "add", "--quiet", "--detach", str(tree))
        (tree / ".stillroom").mkdir()
    failed = []

    def one(at):
        try:
            ledger.write(trees[at % 3], "run", f"key{at}", 1, at, {"at": at})
        except UserError as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(at,)) for at in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(record.body["at"] for record in ledger.read(root)) == list(range(30))


def test_two_machines_unite_by_push_and_fetch_and_none_overwrites_the_other(root):
    bare = root.parent / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    other = repository(root.parent / "two")
    append(root, who="one")
    append(other, who="two")
    for machine in (root, other, root):
        git(machine, "push", "--quiet", str(bare), ledger.REFSPEC)
        git(machine, "fetch", "--quiet", str(bare), ledger.REFSPEC)
    assert ledger.read(root) == ledger.read(other)
    assert {record.body["who"] for record in ledger.read(root)} == {"one", "two"}


def test_a_push_of_the_ledger_publishes_no_source(root):
    (root / "secret.txt").write_text("token")
    git(root, "add", "secret.txt")
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "oops")
    append(root, commit=git(root, "rev-parse", "HEAD").strip())
    git(root, "reset", "--quiet", "--hard", "HEAD~1")
    bare = root.parent / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    git(root, "push", "--quiet", str(bare), ledger.REFSPEC)
    assert "secret.txt" not in git(bare, "rev-list", "--all", "--objects")


def test_a_record_that_is_none_is_named(root):
    append(root)
    commit = git(root, "rev-parse", "HEAD").strip()
    git(root, "update-ref", f"{ledger.REFS}/k/{commit}", commit)
    with pytest.raises(UserError, match=f"refs/stillroom/runs/k/{commit}: not a record"):
        ledger.read(root)


def test_a_record_under_another_name_is_not_believed(root):
    record = append(root)
    git(root, "update-ref", f"{ledger.REFS}/other/{record.id}", record.id)
    with pytest.raises(UserError, match="its name is not its hash"):
        ledger.read(root)


def test_without_git_and_outside_of_a_repository_it_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no git repository"):
        ledger.read(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="git is not here"):
        ledger.read(tmp_path)


def test_a_thousand_records_are_read_within_seconds(root):
    lines = ["blob", "mark :1", "data 2", "{}"]
    body = '{"format": 1, "kind": "run", "key": "k", "number": %d, "when": 5, "body": {"files": ["dvc.lock"]}}'
    for at in range(1000):
        text = body % at
        lines += [f"commit refs/tmp/{at}", f"mark :{at + 10}", "committer s <s@l> 5 +0000", "data 1", "m"]
        lines += [f"M 100644 inline record.json\ndata {len(text)}\n{text}", "M 100644 :1 files/dvc.lock", ""]
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input="\n".join(lines).encode(), check=True)
    made = git(root, "for-each-ref", "--format=%(objectname)", "refs/tmp").split()
    commands = "".join(f"create {ledger.REFS}/k/{commit} {commit}\n" for commit in made)
    subprocess.run(["git", "update-ref", "--stdin"], cwd=root, input=commands.encode(), check=True)
    git(root, "pack-refs", "--all")
    began = time.perf_counter()
    found = ledger.read(root)
    seconds = time.perf_counter() - began
    assert len(found) == 1000
    assert seconds < 5, f"{seconds:.2f} s"


def test_the_chain_of_an_older_version_is_read_with_its_decisions(root):
    about = '{"key": "old", "commit": "c", "dirty": false, "decision": {"promote": true, "reason": "r"}}'
    texts = {"pass/about.json": about.encode(), "params.yaml": b"a: 1\n"}
    git(root, "update-ref", legacy.REF, ledger.commit_of(root, texts, "pass old", 7))
    append(root, key="new", commit="c", dirty=False)
    run, intent, outcome, new = store.records(root)
    assert [one.kind for one in (run, intent, outcome, new)] == ["run", "intent", "outcome", "run"]
    assert next(ledger.files(root, [run])) == {"params.yaml": b"a: 1\n"}
    assert decisions.champion(decisions.all_of(store.records(root), "denoiser")).intent.key == "old"


def decided(*steps):
    """Decisions of ``steps``: (key, promote, result or None)."""
    found = []
    for at, (key, promote, result) in enumerate(steps):
        body = decisions.intent(name="n", version=at, manifest="", expected=None, by="", decision={"promote": promote})
        begun = ledger.Record(id=f"i{at}", kind="intent", key=key, number=2 * at, when=0, body=body)
        found.append(begun)
        if result:
            found.append(ledger.Record(id=f"o{at}", kind="outcome", key=key, number=2 * at + 1, when=0,
                                       body=decisions.outcome(begun, result)))  # fmt: skip
    return decisions.all_of(found, "n")


@pytest.mark.parametrize(("steps", "wanted"), [
    ([], {}),
    ([("a", True, "promoted")], {"champion": "a"}),
    ([("a", True, "promoted"), ("b", False, "held")], {"champion": "a", "challenger": "b"}),
    ([("a", True, "promoted"), ("b", False, "held"), ("b", True, "promoted")], {"champion": "b", "previous": "a"}),
    ([("a", True, "promoted"), ("b", True, "overtaken")], {"champion": "a"}),
    ([("a", True, "promoted"), ("b", True, None)], {"champion": "a"}),
    ([("a", True, "promoted"), ("b", True, "promoted"), ("a", True, "promoted")], {"champion": "a", "previous": "b"}),
    ([("a", True, "adopted")], {"champion": "a"}),
    ([("a", True, "promoted"), ("b", True, "refused")], {"champion": "a"}),
    ([("a", True, "promoted"), ("b", False, "held"), ("a", False, "deleted")], {"challenger": "b"}),
    ([("a", True, "promoted"), ("b", True, "promoted"), ("a", False, "deleted")], {"champion": "b"}),
])  # fmt: skip
def test_the_aliases_follow_from_the_decisions(steps, wanted):
    assert {alias: one.intent.key for alias, one in aliases.wanted(decided(*steps)).items()} == wanted


def test_an_intent_that_two_machines_ended_counts_where_the_alias_moved():
    for first, second in (("promoted", "overtaken"), ("overtaken", "promoted")):
        begun, ended = (one := decided(("a", True, first))[0]).intent, one.outcome
        again = ledger.Record(id="o9", kind="outcome", key="a", number=9, when=0, body=decisions.outcome(begun, second))
        (one,) = decisions.all_of([begun, ended, again], "n")
        assert one.promoted


def test_a_champion_that_was_deleted_is_none_until_the_next():
    gone = decided(("a", True, "promoted"), ("a", False, "deleted"))
    assert decisions.champion(gone) is None and decisions.of_key(gone, "a") is None
    assert decisions.told(gone)["a"].deleted
    assert decisions.champion(decided(("a", True, "promoted"), ("a", False, "deleted"), ("a", True, "promoted")))


def test_what_was_left_open_is_told_with_whether_a_champion_was_made_since():
    rows = [("a", True, "promoted"), ("b", True, None), ("c", False, "held")]
    assert [(one.intent.key, later) for one, later in decisions.left_open(decided(*rows))] == [("b", False)]
    rows.append(("c", True, "promoted"))
    assert [later for _, later in decisions.left_open(decided(*rows))] == [True]
