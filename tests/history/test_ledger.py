"""The ledger: records are added and never replaced, and those of two machines become one."""

import json
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from checkouts import git

from components.base.errors import UserError
from flows.history import decisions, ledger, legacy, store
from flows.registry import aliases

README = Path(__file__).resolve().parents[2] / "README.md"
PUSH = re.search(r"`git push origin '(.*?)'`", README.read_text("utf-8"))[1]


@pytest.fixture
def root(tmp_path):
    return repository(tmp_path / "one")


def repository(folder):
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--allow-empty", "-m", "x")
    (folder / ".stillroom").mkdir()
    return folder


MADE = {"commit": "", "dirty": False, "files": []}


def append(root, key="k", kind="run", files=None, **body):
    return ledger.append(root, ledger.read(root), kind, key, {**MADE, **body, "files": sorted(files or {})}, files)


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
        ledger.write(root, "run", "k", 1, 5, MADE)
    assert len(ledger.read(root)) == 1


def test_thirty_writers_at_once_lose_nothing(root):
    trees = [root, *(root.parent / f"tree{at}" for at in range(2))]
    for tree in trees[1:]:
        git(root, "worktree", "add", "--quiet", "--detach", str(tree))
        (tree / ".stillroom").mkdir()
    failed = []

    def one(at):
        try:
            ledger.write(trees[at % 3], "run", f"key{at}", 1, at, {**MADE, "at": at})
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
        git(machine, "push", "--quiet", str(bare), PUSH)
        git(machine, "fetch", "--quiet", str(bare), ledger.FETCH)
    assert ledger.read(root) == ledger.read(other)
    assert {record.body["who"] for record in ledger.read(root)} == {"one", "two"}


def test_a_fetch_that_prunes_takes_no_record_away(root):
    """`fetch.prune` is set by many: git then removes what the remote does not have, from where it fetches to."""
    bare, other = root.parent / "bare.git", repository(root.parent / "two")
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    append(other, who="two")
    git(other, "push", "--quiet", str(bare), PUSH)
    git(root, "config", "fetch.prune", "true")
    mine = append(root, who="one")
    git(root, "fetch", "--quiet", str(bare), ledger.FETCH)
    (theirs,) = (record for record in ledger.read(root) if record != mine)
    last = append(root, who="one again")
    git(bare, "update-ref", "-d", f"{ledger.REFS}/k/{theirs.id}")  # and the remote loses it
    git(root, "fetch", "--quiet", str(bare), ledger.FETCH)
    assert git(root, "for-each-ref", ledger.FETCHED) == ""
    assert set(ledger.read(root)) == {mine, theirs, last}


def test_a_push_of_the_ledger_publishes_no_source(root):
    (root / "secret.txt").write_text("token")
    git(root, "add", "secret.txt")
    git(root, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "oops")
    append(root, commit=git(root, "rev-parse", "HEAD").strip())
    git(root, "reset", "--quiet", "--hard", "HEAD~1")
    bare = root.parent / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    git(root, "push", "--quiet", str(bare), PUSH)
    assert "secret.txt" not in git(bare, "rev-list", "--all", "--objects")


def test_a_record_that_is_none_is_named(root):
    append(root)
    commit = git(root, "rev-parse", "HEAD").strip()
    git(root, "update-ref", f"{ledger.REFS}/k/{commit}", commit)
    with pytest.raises(UserError, match=f"refs/stillroom/runs/k/{commit}: not a record"):
        ledger.read(root)


INTENT = {"name": "denoiser", "version": 1, "manifest": "m", "expected": None, "by": "gate", "files": [],
          "decision": {"promote": True, "reason": "better"}}  # fmt: skip
OUTSIDE = ("../up", "a/../../up", "/etc/x", "a\nHEAD:a", "", "a//b", ".git/config", "a/.hidden", "-x", "a" * 501)


def foreign(root, said, key="k"):
    """A record as another machine may have written it, whatever it says."""
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    commit = ledger.commit_of(root, {"record.json": text}, "x", 5)
    git(root, "update-ref", f"{ledger.REFS}/{key}/{commit}", commit)


@pytest.mark.parametrize(("kind", "body", "why"), [
    *(("run", {**MADE, "files": [name]}, "files.0: String should") for name in OUTSIDE),
    ("run", {**MADE, "files": "abc"}, "files: Input should be a valid list"),
    ("run", {**MADE, "prefix": "x\nHEAD:"}, "prefix: Input should be None"),
    ("run", {**MADE, "libraries": ["torch"]}, "libraries: "),
    ("run", {}, "Field required"),
    ("intent", {**INTENT, "version": "1"}, "version: Input should be a valid integer"),
    ("intent", {**INTENT, "version": 0}, "version: Input should be greater"),
    ("intent", {**INTENT, "version": 10**12}, "version: Input should be less"),
    ("intent", {**INTENT, "decision": []}, "decision: "),
    ("intent", {**INTENT, "decision": {"promote": 1, "reason": ""}}, "decision.promote: "),
    ("intent", {**INTENT, "decision": {**INTENT["decision"], "against": "x y"}}, "decision.against: "),
    ("intent", {**INTENT, "name": None}, "name: "),
    ("outcome", {"intent": "i", "result": "perhaps"}, "result: "),
    ("outcome", {"result": "held"}, "intent: Field required"),
    ("wish", {}, "kind: "),
])  # fmt: skip
def test_a_record_of_another_shape_is_one_line_and_none_is_ever_written(root, kind, body, why):
    foreign(root, {"format": 1, "kind": kind, "key": "k", "number": 1, "when": 5, "body": body})
    with pytest.raises(UserError, match=f"refs/stillroom/runs/k/[0-9a-f]+: not a record .*{why}") as raised:
        ledger.read(root)
    assert "\n" not in str(raised.value).replace("\\n", "")
    with pytest.raises(ValueError, match=why):
        ledger.write(root, kind, "k", 1, 5, body)


@pytest.mark.parametrize("said", [b"", b"[]", b"\xff", b"[" * 100_000, {}, {"format": 2}, {
    "format": 1, "kind": "run", "key": "k", "number": "1", "when": 5, "body": MADE}, {
    "format": 1, "kind": "run", "key": "k", "number": 1, "when": 2**60, "body": MADE}])  # fmt: skip
def test_what_is_no_record_at_all_is_one_line(root, said):
    foreign(root, said)
    with pytest.raises(UserError, match="not a record of this version of Stillroom"):
        ledger.read(root)


def test_what_a_newer_version_says_besides_is_read_over(root):
    append(root, mood="good")
    body = {**INTENT, "more": [1], "decision": {**INTENT["decision"], "approved_by": "Ann"}}
    append(root, "k", "intent", **{**body, "files": []})
    assert [record.body.get("more") for record in ledger.read(root)] == [None, [1]]


@pytest.mark.parametrize("content", ["", "dead", "0" * 40], ids=["empty", "short", "zeros"])
def test_a_ref_that_a_power_cut_left_empty_is_told_and_not_taken_for_none(root, content):
    record = append(root)
    ref = f"{ledger.REFS}/k/{record.id}"
    (root / ".git" / ref).write_text(content)
    with pytest.raises(UserError, match=f"broken ref {ref}: its name ends in its hash"):
        ledger.read(root)
    (root / ".git" / ref).unlink()  # as the line says
    git(root, "update-ref", ref, record.id)
    assert ledger.read(root) == [record]


def test_a_clock_that_goes_back_changes_no_order_and_strangers_are_in_that_of_their_clocks(root, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    first = append(root)
    monkeypatch.setattr(time, "time", lambda: 5.0)
    second = append(root, key="later")
    assert ledger.read(root) == [first, second] and second.when == 1000
    stranger = ledger.write(root, "run", "newcomer", 1, 2000, MADE)  # who knew no other record
    assert ledger.read(root)[-1] == stranger


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
    body = {**MADE, "files": ["dvc.lock"]}
    for at in range(1000):
        text = json.dumps({"format": 1, "kind": "run", "key": "k", "number": at + 1, "when": 5, "body": body})
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
    assert decisions.latest(gone)["a"].deleted
    assert decisions.champion(decided(("a", True, "promoted"), ("a", False, "deleted"), ("a", True, "promoted")))


def test_what_was_left_open_is_told_with_whether_a_champion_was_made_since():
    rows = [("a", True, "promoted"), ("b", True, None), ("c", False, "held")]
    assert [(one.intent.key, later) for one, later in decisions.left_open(decided(*rows))] == [("b", False)]
    rows.append(("c", True, "promoted"))
    assert [later for _, later in decisions.left_open(decided(*rows))] == [True]
