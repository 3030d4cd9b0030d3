"""A stage on a worker: the same bytes as here, from inputs that are compared with their hashes, checked at the end."""

import hashlib
import json
import shutil

import buckets
import pytest
import workshop
from checkouts import edit, git, tree
from data_checkout import copied

from components.base.errors import UserError
from components.pipeline import stage
from flows.dvc import apart, engine, snapshot
from flows.dvc.shelf import RemoteGone
from flows.worker import call, order, task, work
from flows.workspace.paths import State


@pytest.fixture
def shop(tmp_path):
    """Two clones, where training takes a moment."""
    found = workshop.make(tmp_path)
    workshop.quickly(found.controller)
    return found


def objects(folder):
    """DVC's files below ``folder``, the lists of folders last."""
    return sorted((path for path in folder.rglob("*") if path.is_file() and "stillroom" not in path.parts),
                  key=lambda path: path.suffix)  # fmt: skip


def taken_over(shop, task, made):
    with snapshot.taken(shop.controller):
        call.take_over(shop.controller, task, made)


@pytest.mark.slow(20)
def test_a_worker_makes_the_same_lock_and_bytes_as_training_here(tmp_path):
    shop = workshop.make(tmp_path)
    wanted = shop.order()
    taken_over(shop, wanted, shop.worked(wanted))
    theirs = ((shop.controller / "dvc.lock").read_bytes(), tree(shop.controller / "models"))
    assert not apart.is_stale(shop.controller, "train")
    engine.reproduce(shop.controller, stage("train"), watched=State(shop.controller).events, force=True)
    assert ((shop.controller / "dvc.lock").read_bytes(), tree(shop.controller / "models")) == theirs


@pytest.mark.slow(20)
def test_a_remote_at_s3_serves_as_a_folder_does(tmp_path):
    with buckets.bucket("shelf") as address:
        shop = workshop.make(tmp_path, f"{address}/dvc")
        workshop.quickly(shop.controller)
        wanted = shop.order()
        taken_over(shop, wanted, shop.worked(wanted))
        assert shop.shelf.names("results") and not apart.is_stale(shop.controller, "train")


@pytest.mark.slow(4)
def test_what_is_ordered_is_what_lies_here_and_no_branch_gets_to_know_of_it(shop):
    edit(shop.controller, "train", seed=7)
    wanted, bare = shop.order(), shop.worker.with_name("bare.git")
    assert shop.order() == wanted, "the same state is the same task"
    assert "seed: 7" in git(bare, "show", f"{wanted.commit}:params.yaml"), "what no commit of the user's holds"
    names = git(bare, "ls-tree", "-r", "--name-only", wanted.commit).split()
    assert not [name for name in names if name.startswith(("flows", "tests", ".dvc/config.local", "source"))]
    assert git(bare, "for-each-ref", "refs/stillroom").split()[-1] == f"refs/stillroom/tasks/{wanted.commit}"
    assert git(bare, "log", "--format=%P", wanted.commit).strip() == ""
    order.forget(shop.controller, wanted)
    assert git(bare, "for-each-ref", "refs/stillroom") == ""


@pytest.mark.slow(4)
def test_a_commit_that_is_not_there_may_come_and_one_that_is_another_is_refused(shop):
    wanted = shop.order()
    order.forget(shop.controller, wanted)
    with pytest.raises(RemoteGone, match=r"commit \w{12}: git fetch: .*couldn't find remote ref") as raised:
        shop.worked(wanted)
    assert "\n" not in str(raised.value)
    git(shop.controller, "push", "--quiet", "origin", f"HEAD:{wanted.ref}")
    with pytest.raises(work.InputsDiffer, match="is another commit"):
        shop.worked(wanted)


@pytest.mark.slow(4)
def test_inputs_that_are_not_what_the_lock_says_train_nothing(shop):
    wanted = shop.order()
    for path in (path for path in objects(shop.remote) if path.suffix != ".dir"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"data/\w+: \d+ of its files in DVC's remote 'shelf' are not what"):
        shop.worked(wanted)
    assert shop.shelf.read(wanted.result) is None
    shutil.rmtree(shop.remote)
    shop.order()
    assert shop.worked(wanted), "nothing of what was damaged is believed afterwards"


@pytest.mark.slow(4)
def test_inputs_that_change_while_the_stage_runs_make_no_result(shop):
    workshop.quickly(shop.controller, "echo more >> data/pixels/header.json")
    wanted = shop.order()
    with pytest.raises(UserError, match=r"data/pixels\S* changed while stage 'train' ran"):
        shop.worked(wanted)
    assert shop.shelf.read(wanted.result) is None


@pytest.mark.slow(4)
def test_another_digest_than_the_commit_has_is_refused(shop):
    wanted = shop.order()
    other = task.Task(wanted.commit, "0" * 64, "train")
    with pytest.raises(
        work.InputsDiffer, match=r"has other inputs for stage 'train' \(\w{12}\) than was asked for \(0{12}\)"
    ):
        shop.worked(other)


@pytest.mark.slow(4)
def test_a_result_that_was_not_delivered_is_delivered_and_not_made_again(shop):
    wanted = shop.order()
    where = work.prepare(shop.worker, wanted)
    options = {"log": workshop.LOG, "metrics": lambda *_: None, "files": lambda *_: None}
    seconds = work.run(where, wanted, **options)
    before = (where / "dvc.lock").read_bytes()
    assert work.prepare(shop.worker, wanted) == where
    assert work.run(where, wanted, **options) == seconds
    assert (where / "dvc.lock").read_bytes() == before
    assert work.deliver(where, wanted, shop.shelf, seconds, None) == work.found(shop.shelf, wanted)


@pytest.mark.parametrize("arguments", [
    ("HEAD", "0" * 64, "train"), ("0" * 40, "0" * 63, "train"), ("0" * 40, "0" * 64, "collect"),
    ("0" * 40, "0" * 64, "train; id"), ("--upload-pack=id", "0" * 64, "train"), ("0" * 40 + "\n", "0" * 64, "train"),
    (7, "0" * 64, "train"), ("0" * 40, "0" * 64, None),
])  # fmt: skip
def test_a_task_is_a_commit_a_digest_and_a_stage_and_nothing_else(arguments):
    with pytest.raises(UserError, match="wanted") as raised:
        task.Task(*arguments).checked()
    assert "\n" not in str(raised.value)


def told(shop, wanted, **changes):
    """The result on the shelf with ``changes``, its own SHA-256 fitting."""
    said = {**json.loads(shop.shelf.read(wanted.result)), **changes}
    del said["sha256"]
    sealed = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    shop.shelf.write(wanted.result, json.dumps({**said, "sha256": sealed}).encode())


@pytest.mark.slow(4)
def test_a_result_that_was_changed_or_is_of_something_else_is_one_line(shop):
    wanted = shop.order()
    made = shop.worked(wanted)
    text = shop.shelf.read(wanted.result)
    for other, words in (
        (text.replace(b'"seconds": ', b'"seconds": 1'), "its SHA-256 is another"),
        (b"[]", "not an object"), (b"{", "Expecting property name"), (b"[" * 10**5, "recursion"),
    ):  # fmt: skip
        shop.shelf.write(wanted.result, other)
        with pytest.raises(UserError, match=rf"{words}.*nothing of it is used; remove it") as raised:
            work.found(shop.shelf, wanted)
        assert "\n" not in str(raised.value)
    for changes in ({"inputs": "0" * 64}, {"outs": [{"path": "../up", "md5": "0" * 32, "text": None}]}, {"outs": []},
                    {"outs": [out.model_dump() for out in [*made.outs, *made.outs]]}, {"more": 1}):  # fmt: skip
        shop.shelf.write(wanted.result, text)
        told(shop, wanted, **changes)
        with pytest.raises(UserError, match="nothing of it is used"):
            work.found(shop.shelf, wanted)


@pytest.mark.slow(4)
def test_outputs_that_are_not_what_the_result_says_are_not_taken_over(shop):
    wanted = shop.order()
    made = shop.worked(wanted)
    before = (shop.controller / "dvc.lock").read_bytes()
    model = made.hashes["models/candidate"]
    listing = shop.remote / "files/md5" / model[:2] / model[2:]
    (entry,) = json.loads(listing.read_bytes())
    weights = shop.remote / "files/md5" / entry["md5"][:2] / entry["md5"][2:]
    for path, content, words in (
        (weights, b"other weights", "1 of its files in DVC's remote 'shelf' are not what their names say"),
        (listing, b'[{"relpath": "../../../flows/x"}]', "its bytes are not what its name says"),
        (listing, None, "does not give models/candidate|does not hold models/candidate"),
    ):  # fmt: skip
        held = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(content) if content else path.unlink()
        shutil.rmtree(shop.controller / ".dvc/cache/files/md5" / model[:2], ignore_errors=True)
        with pytest.raises(UserError, match=words) as raised:
            taken_over(shop, wanted, made)
        assert "\n" not in str(raised.value)
        assert (shop.controller / "dvc.lock").read_bytes() == before
        assert not (shop.controller / "models/candidate").exists()
        path.write_bytes(held)
    lie = made.model_copy(
        update={"outs": [out.model_copy(update={"text": "{}"}) if out.text else out for out in made.outs]}
    )
    with pytest.raises(UserError, match=r"metrics/train\.json: its text is not what its hash"):
        taken_over(shop, wanted, lie)
    with pytest.raises(
        UserError, match=r"stage 'train' writes metrics/train\.json, models/candidate, not metrics/train\.json"
    ):
        taken_over(shop, wanted, made.model_copy(update={"outs": [out for out in made.outs if out.text]}))
    edit(shop.controller, "train", seed=7)
    with pytest.raises(UserError, match="the result is of other inputs than lie here"):
        taken_over(shop, wanted, made)
    edit(shop.controller, "train", seed=0)
    taken_over(shop, wanted, made)
    assert not apart.is_stale(shop.controller, "train")


def test_what_a_worker_cannot_be_handed_is_one_line_before_the_work(tmp_path):
    root = copied(tmp_path / "checkout")
    with pytest.raises(UserError, match="workers need a git remote and it has none"):
        order.check(root)
    git(root, "remote", "add", "origin", str(tmp_path / "bare.git"))
    with pytest.raises(UserError, match=r"DVC's default remote, and it has none: `dvc remote add"):
        order.check(root)
