"""`stillroom data status` and `stillroom data diff` on a checkout with real git and DVC."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from checkouts import ROOT, edit, environment, python_path
from data_checkout import HOSTILE, built, commit, copied, members, refresh
from data_fixtures import png, zipped
from typer.testing import CliRunner

from components.base.errors import UserError
from flows.cli import app
from flows.data import diff, revisions, status
from flows.dvc import engine
from flows.dvc.freshness import Freshness
from flows.workspace.paths import State


@pytest.fixture(scope="module")
def checkout():
    return built()


@pytest.fixture
def mine(tmp_path):
    return copied(tmp_path / "checkout")


def run(*arguments: str):
    return CliRunner().invoke(app.app, ["data", *arguments], catch_exceptions=False)


def stale(root):
    state = State(root)
    fresh = Freshness(root, state.folder / "fresh.json")
    found = fresh.stale()
    fresh.save()
    return found


def changed(path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def cached(root, path: str):
    """The last file of the output folder ``path`` in DVC's cache."""
    digest = engine.output(engine.lock(root), "split", path)
    return sorted(engine.cached(root, digest).values())[-1]


TOUCHES = {
    "nothing": lambda root: None,
    "a table": lambda root: (root / "data/clean/pairs.parquet").write_bytes(b"other"),
    "a parameter": lambda root: edit(root, "describe", rows=199),
    "code": lambda root: changed(root / "components/html/page.py", "def size(", "def  size("),
    "a file more": lambda root: (root / "data/splits/more").write_bytes(b"x"),
    "a file less": lambda root: (root / "data/splits/val.i32").unlink(),
    "numbers lost": lambda root: (root / "metrics/split.json").unlink(),
    "a command": lambda root: changed(root / "dvc.yaml", "components split", "components  split"),
    "a dependency more": lambda root: changed(
        root / "dvc.yaml",
        "- components/split/stage.py\n",
        "- components/split/stage.py\n    - components/html/style.py\n",
    ),
    "a file lost from the cache": lambda root: cached(root, "data/splits").unlink(),
    "a cache elsewhere": lambda root: (
        (root / ".dvc/cache").rename(root / ".dvc/store")
        and (root / ".dvc/config.local").write_text("[cache]\n    dir = store\n")
    ),
    "no cache": lambda root: shutil.rmtree(root / ".dvc/cache"),
    "the lock lost": lambda root: (root / "dvc.lock").unlink(),
}


QUICK = ("nothing", "a parameter", "code", "a file lost from the cache")


@pytest.mark.parametrize("touch", [pytest.param(t, marks=() if t in QUICK else pytest.mark.slow) for t in TOUCHES])
def test_what_is_stale_is_what_dvc_says(mine, touch):
    stale(mine)  # a memory of the state before must not hide the change
    TOUCHES[touch](mine)
    assert stale(mine) == engine.stale(mine) == stale(mine)


def test_a_damaged_memory_costs_time_and_nothing_else(mine):
    for text in ("", "[]", '{"files": 3, "known": 4}', "\0"):
        (mine / ".stillroom/fresh.json").write_text(text)
        assert stale(mine) == ["train", "evaluate", "report"]


def test_a_memory_that_cannot_be_written_costs_time_and_nothing_else(mine):
    memory = mine / ".stillroom/fresh.json"
    memory.unlink(missing_ok=True)
    memory.mkdir()  # as where this user may not write, which root always may
    assert status.status(State(mine))["stale"] == []


def test_status_counts_images_sources_and_splits(checkout):
    found = status.status(State(checkout))
    assert found["images"] == {"kept": 25, "rejected": 2, "gone": 0, "withdrawn": 0}
    assert [source["name"] for source in found["sources"]] == ["noto-emoji"]
    assert sum(found["splits"].values()) == 25
    assert found["stale"] == []
    out = run("status", "-C", str(checkout)).output
    assert "27 collected: 25 kept, 2 rejected, 0 gone, 0 withdrawn" in out
    assert json.loads(run("status", "-C", str(checkout), "--json").output) == found


def test_status_says_what_is_stale_and_what_is_not_there(mine, tmp_path):
    edit(mine, "split", salt="another")
    assert status.status(State(mine))["stale"] == ["split", "describe"]
    for path in ("data/clean", "data/raw"):
        (mine / path).rename(tmp_path / path.replace("/", "-"))
    assert "none yet" in status.lines(status.status(State(mine)))


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_damaged_numbers_are_an_error_and_not_none(tmp_path, text):
    assert status._metrics(State(tmp_path), "split") == {}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/split.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics/split\.json: .*: `stillroom run` writes it again"):
        status._metrics(State(tmp_path), "split")


def test_status_imports_no_heavy_tool_when_nothing_changed(checkout):
    status.status(State(checkout))
    code = (
        "import sys; from flows.cli import app as cli; sys.argv = ['stillroom', 'data', 'status']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'dvc', 'mlflow', 'prefect', 'pandas', 'pyarrow', 'numpy', 'torch', 'ruamel'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    env = environment() | {"PYTHONPATH": python_path(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A checkout with two states: one image gone, one new, one with another label; and what diff says of them."""
    root = copied(tmp_path_factory.mktemp("two") / "checkout")
    source = members()
    names = sorted(name for name in source if name.endswith(".png"))
    gone, other = names[1], names[2]
    del source[gone]
    rows = source["metadata.csv"].decode().splitlines(keepends=True)
    table = "".join(rows).replace(f'{gone},"caption', 'gone.png,"caption')
    table = re.sub(rf'({re.escape(other)},"caption [^>]*>",)[^,]*,', r"\1other label,", table)
    table += "new.png,a caption,new label,\r\n"
    source |= {"new.png": png(55), "metadata.csv": table.encode()}
    zipped(root / "source.zip", source)
    refresh(root)
    before, after = commit(root, "second state") + "~1", "HEAD"
    found, revisions = diff.diff(State(root), before, after, pictures=50)
    return root, found, revisions, {"gone": gone, "other": other}


def test_diff_tells_added_removed_and_changed_labels(two):
    _, found, _, names = two
    assert [change.image["source_key"] for change in found.added] == ["new.png"]
    assert [(change.image["source_key"], change.why) for change in found.removed] == [
        (names["gone"], f"{found.removed[0].after['reason']}: not in the source any more")
    ]
    assert [change.image["source_key"] for change in found.annotated] == [names["other"]]
    assert found.annotated[0].why == "label"
    assert found.labels["new label"] == (0, 1)
    assert found.moved == []
    assert found.kept == (25, 25)


def test_the_other_way_round_it_tells_the_opposite(two):
    root, found, _, _ = two
    back, _ = diff.diff(State(root), "HEAD", "HEAD~1", pictures=5, target=root / "back.html")
    assert len(back.added) == len(found.removed)
    assert len(back.removed) == len(found.added)
    assert back.removed[0].why == "not in the record"
    assert back.kept == found.kept[::-1]


def test_the_lines_and_the_gallery_show_hostile_names_as_text(two):
    root, found, revisions, _ = two
    page = (root / diff.PAGE).read_text("utf-8")
    assert page.count("<script") == 1 and "&lt;script&gt;" in page
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    assert f"<td><code>commit {head.strip()}</code></td>" in page and re.search(r"<code>20\d\d-\d\d-\d\d ", page)
    assert re.search(r"data/splits</th><td><code>[0-9a-f]{32}</code>", page)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "background-image:url(data:image/webp;base64," in page
    lines = diff.lines(found, revisions)
    assert "new.png" in lines
    assert "Added: 1\n" in lines and "Changed labels or captions: 1\n" in lines
    assert HOSTILE.replace("/", "") in lines
    assert "\x1b" not in lines


def test_nothing_changed_is_said_in_one_line(checkout):
    done = run("diff", "HEAD", "now", "-C", str(checkout))
    assert done.exit_code == 0
    assert "nothing changed: 25 images kept" in done.output


def test_a_moved_split_is_said_loudly_and_ends_with_1(mine):
    edit(mine, "split", salt="another")
    refresh(mine)
    done = run("diff", "HEAD", "-C", str(mine))
    assert done.exit_code == 1
    assert "SPLITS MOVED" in done.output
    assert run("diff", "HEAD", "-C", str(mine), "--json").exit_code == 1
    assert 'class="warn"' in (mine / diff.PAGE).read_text("utf-8")


def test_what_was_withdrawn_by_hand_is_never_drawn_again(two, tmp_path):
    root, found, _, _ = two
    record = root / "data/withdrawn.jsonl"
    before = record.read_bytes()
    page = tmp_path / "page.html"
    diff.diff(State(root), "HEAD~1", "HEAD", pictures=50, target=page)
    assert ">withdrawn</span>" not in page.read_text("utf-8")
    unknown = {**dict.fromkeys(("pixel_sha256", "phash", "width", "height")), "pairs": []}
    lines = [{"sha256": change.image["sha256"], **unknown} for change in found.added + found.removed]
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        diff.diff(State(root), "HEAD~1", "HEAD", pictures=50, target=page)
    finally:
        record.write_bytes(before)
    assert page.read_text("utf-8").count(">withdrawn</span>") == 2


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("nowhere", "nowhere: no such state of the data; wanted `now`"),
        ("--help", "no such state"),
        ("last", "no pipeline run has been published"),
        ("HEAD~1", "has no dvc.lock with every data stage"),
        ("0123456789abcdef", "no such state"),
    ],
)
def test_a_word_that_names_no_state_is_one_line(checkout, word, line):
    with pytest.raises(UserError, match=re.escape(line)):
        revisions.resolve(State(checkout), word)


def test_a_state_that_the_cache_lost_names_dvc_pull(mine):
    digest = engine.output(engine.lock(mine), "resize", "data/pixels")
    (mine / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()
    state = State(mine)
    with (
        pytest.raises(UserError, match="`dvc pull`"),
        revisions.opened(state, revisions.resolve(state, "HEAD")),
    ):
        pass
