"""`stillroom data withdraw`: the bytes are gone, the place stays, nothing else moves, and it can be done again."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
from checkouts import stillroom, tree
from data_checkout import built, copied, members, refresh
from data_fixtures import png

from components.base import config
from components.base.errors import UserError
from components.base.files import BESIDE
from components.collect.web import store as urlstore
from components.samples import facts, manifest, pack, shards
from flows.data import diff, materialise, status, withdraw
from flows.dvc import engine
from flows.workspace.paths import State

PLACES = ("data/raw", "data/clean", "data/pixels", "data/splits", "data/profile", "reports", ".stillroom")
RECORD = "data/withdrawn.jsonl"
THUMB = bytes(range(100, 200))
"""Stands for a picture in a record of a fact."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def request(*words: str, **changes: object) -> withdraw.Request:
    defaults = {"listed": None, "source": None, "reason": "asked to", "dry_run": False, "purge": False}
    return withdraw.Request(words=words, **{**defaults, **changes})


def erase(root, *words: str, sure: bool = True, **changes: object) -> list[str]:
    lines: list[str] = []
    withdraw.withdraw(State(root), request(*words, **changes), say=lines.append, sure=lambda question: sure)
    return lines


def holders(root, data: bytes, places=PLACES) -> list[str]:
    """The files that hold ``data``."""
    return [f"{place}/{name}" for place in places for name, found in tree(root / place).items() if data in found]


def index(root) -> dict[str, dict]:
    return {row["source_key"]: row for row in shards.read_index(root / "data/raw").to_pylist()}


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Stages run in this process; the test marked slow has DVC run them."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(materialise, "materialise", lambda state, say: refresh(state.root))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A checkout from which three files were withdrawn: two by content (one twice there), one by name."""
    root = copied(tmp_path_factory.mktemp("withdrawn") / "checkout")
    key = next(key for key, row in index(root).items() if row["sha256"] == digest(png(7)))
    header = pack.read_header(root / "data/pixels")
    row = pack.read_keys(root / "data/pixels").index(digest(png(7)))
    size = header.spec.bytes
    pixels = (root / "data/pixels/pixels-00000.u8").read_bytes()[row * size : (row + 1) * size]
    (root / "reports/model.html").write_text("nearest neighbours")
    with urlstore.Writer(root / ".stillroom/collect/web", name="web") as store:
        store.put("https://example.org/a", png(3))
        store.put("https://example.org/b", png(4))
    names = facts.keys([facts.key(digest(png(seed)), "#ffffff") for seed in (3, 4)])
    kind = facts.np.dtype([("x", "f4", (3,))])
    facts.Store(root / ".stillroom/facts", "made-up", "rule", kind).add(names, facts.np.ones(2, kind))
    earlier = root / ".stillroom/facts/picture/of-an-earlier-side"
    dark = facts.keys([facts.key(digest(png(seed)), "#000000") for seed in (3, 4)])
    shown = facts.np.frombuffer(THUMB * 2, f"V{len(THUMB)}")
    facts.Store(root / ".stillroom/facts", earlier.parent.name, earlier.name, shown.dtype).add(dark, shown)
    for name in ("old.facts", f".x.facts{BESIDE}0123", "other.facts"):
        (earlier / name).write_bytes(b"stillroom facts 0\n" * ("old" in name) + THUMB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(materialise, "materialise", lambda state, say: refresh(state.root))
        lines = erase(root, digest(png(3))[:12].upper(), f"noto-emoji:{key}", digest(png(3)))
    return SimpleNamespace(root=root, lines=lines, text="\n".join(lines), pixels=pixels, kind=kind)


def test_the_bytes_and_the_pixels_are_gone_from_the_working_data(done):
    assert holders(built(), png(3))
    assert holders(built(), done.pixels)
    for data in (png(3), png(7), done.pixels):
        assert holders(done.root, data) == []
    assert holders(done.root, png(4), (".stillroom",))
    assert not (done.root / "reports/model.html").exists()


def test_the_place_stays_and_no_other_image_moves(done):
    before, after = index(built()), index(done.root)
    assert list(before) == list(after)
    gone = {key for key, row in after.items() if row["withdrawn"]}
    assert gone == {key for key, row in before.items() if row["sha256"] in (digest(png(3)), digest(png(7)))}
    assert len(gone) == 3
    for key in gone:
        assert (after[key]["shard"], after[key]["row"], after[key]["member"]) == ("", -1, False)
    found, _ = diff.diff(State(done.root), "HEAD", "now", pictures=50, target=done.root.parent / "page.html")
    assert found.moved == []
    assert {change.image["source_key"] for change in found.removed} == gone
    assert found.added == found.annotated == []
    assert (done.root.parent / "page.html").read_text("utf-8").count(">withdrawn</span>") == 3


def test_the_record_says_what_clean_has_to_know(done):
    rows = {row["sha256"]: row for row in manifest.read(
        built() / "data/clean/verdicts.parquet", manifest.VERDICTS, stage="clean").to_pylist()}  # fmt: skip
    lines = [json.loads(line) for line in (done.root / RECORD).read_text("utf-8").splitlines()]
    assert {line["sha256"] for line in lines} == {digest(png(3)), digest(png(7))}
    assert len(lines) == 2
    for line in lines:
        row = rows[line["sha256"]]
        assert (line["reason"], line["source"]) == ("asked to", "noto-emoji")
        assert all(line[name] == row[name] for name in ("pixel_sha256", "phash", "width", "height"))
        assert isinstance(line["pairs"], list)


def test_facts_and_downloads_are_forgotten(done):
    store = facts.Store(done.root / ".stillroom/facts", "made-up", "rule", done.kind)
    names = facts.keys([facts.key(digest(png(seed)), "#ffffff") for seed in (3, 4)])
    assert [at >= 0 for at in store.find(names)] == [False, True]
    assert "1 downloaded file" in done.text


def test_pictures_by_an_earlier_matte_side_or_version_are_forgotten(done):
    assert holders(done.root, THUMB) == []
    assert not (done.root / ".stillroom/facts/picture/of-an-earlier-side").exists(), "of nothing that stays"


def test_the_other_images_keep_their_facts(done, tmp_path):
    """A refresh after a withdrawal computes nothing anew."""
    root = tmp_path / "checkout"
    shutil.copytree(done.root, root, symlinks=True)
    before = {name for name in tree(root / ".stillroom/facts") if name.endswith(".facts")}
    assert {name.split("/")[0] for name in before} >= {"image", "thumb", "vectors", "look"}
    refresh(root)
    assert {name for name in tree(root / ".stillroom/facts") if name.endswith(".facts")} == before


def test_what_a_kill_left_of_the_facts_goes_the_next_time(done, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(done.root, root, symlinks=True)
    names = facts.keys([facts.key(digest(png(3)), "#ffffff")])
    shown = facts.np.frombuffer(THUMB, f"V{len(THUMB)}")
    facts.Store(root / ".stillroom/facts", "thumb", "rule", shown.dtype).add(names, shown)
    assert erase(root, digest(png(3))) == ["nothing to do: 1 image withdrawn already"]
    assert holders(root, THUMB) == []


@pytest.mark.parametrize("after", ["collect", "describe"])
def test_a_withdrawal_that_is_killed_is_ended_by_the_same_command(tmp_path, monkeypatch, after):
    """Killed behind the first stage, or behind the last and before the pages and facts."""
    root = copied(tmp_path / "checkout")
    before = {"data/pixels": tree(root / "data/pixels"), "reports/data.html": (root / "reports/data.html").read_bytes()}
    (root / "reports/model.html").write_text("nearest neighbours")

    class Killed(BaseException):
        pass

    def cut_off(state, say):
        sections, stages = config.read(state.root / config.FILE), status.stages()
        for stage in stages if after == "describe" else stages[:1]:
            stage.run(config.section(sections, stage.name, stage.params), state.root)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(materialise, "materialise", cut_off)
        erase(root, digest(png(3)))
    assert (root / "reports/model.html").exists()
    lines = erase(root, digest(png(3)))
    assert lines[0] == "an earlier withdrawal was cut off: it is ended now"
    assert not (root / "reports/model.html").exists() and holders(root, png(3)) == []
    assert tree(root / "data/pixels") != before["data/pixels"]
    assert (root / "reports/data.html").read_bytes() != before["reports/data.html"]
    assert erase(root, digest(png(3))) == ["nothing to do: 1 image withdrawn already"]


@pytest.mark.slow(5)
def test_a_cache_that_others_may_share_is_left_alone_and_named(tmp_path):
    root, shared = copied(tmp_path / "checkout"), tmp_path / "shared"
    shutil.move(root / ".dvc/cache", shared)
    (root / ".dvc/config.local").write_text(f"[cache]\n    dir = {shared}\n")
    before = tree(shared)
    lines = erase(root, digest(png(6)), purge=True)
    assert any(line.startswith(f"not reached: DVC's cache at {shared}") for line in lines), lines
    assert before.items() <= tree(shared).items()


def test_it_says_what_it_did_and_what_it_cannot_reach(done):
    for words in ("to withdraw: 2 images", "commit it", "not reached: the source", "older states in DVC's cache",
                  "`dvc gc --workspace --cloud`", "no registered version was trained on them",
                  "`stillroom run` trains without"):  # fmt: skip
        assert words in done.text


def test_it_does_not_come_back_and_a_second_time_nothing_happens(done, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(done.root, root, symlinks=True)
    record = (root / RECORD).read_bytes()
    assert erase(root, digest(png(3))) == ["nothing to do: 1 image withdrawn already"]
    assert (root / RECORD).read_bytes() == record
    source = members()
    shutil.copyfile(built() / "source.zip", root / "source.zip")  # another look at the same source
    assert png(3) in source.values()
    refresh(root)
    assert holders(root, png(3)) == []
    refused = manifest.read(root / "data/raw/refused.parquet", manifest.REFUSED, stage="collect").to_pylist()
    assert [row["reason"] for row in refused].count("withdrawn") == 3


@pytest.mark.slow
def test_a_withdrawal_that_was_killed_is_ended_by_the_next(tmp_path, monkeypatch):
    root = copied(tmp_path / "checkout")

    def killed(state, say):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(materialise, "materialise", killed)
        erase(root, digest(png(5)))
    assert holders(root, png(5))
    erase(root, digest(png(5)))
    assert holders(root, png(5)) == []
    assert len((root / RECORD).read_text("utf-8").splitlines()) == 1


def test_what_cannot_be_withdrawn_is_one_line_and_nothing_is_written(tmp_path):
    root = built()
    listed = tmp_path / "list.txt"
    listed.write_text(f"# asked by mail\n{digest(png(1))}\nnonsense\n")
    for asked, words in (
        (request("0" * 64), "no image in data/raw has this SHA-256"),
        (request("abc"), "8 or more of its first digits"),
        (request("noto-emoji:nowhere.png"), "no image of that name"),
        (request("elsewhere:a.png"), "no image of that name"),
        (request(listed=listed), "line 3: nonsense: wanted a SHA-256"),
        (request(listed=tmp_path / "none"), r"cannot be read \(No such file or directory\)"),
        (request(source="elsewhere"), "the sources are noto-emoji"),
        (request(source="noto-emoji"), "that is every image there is"),
        (request(), "name what to withdraw"),
    ):
        with pytest.raises(UserError, match=words):
            withdraw.withdraw(State(root), asked, say=lambda line: None, sure=lambda question: True)
    with pytest.raises(UserError, match="nothing was withdrawn"):
        erase(root, digest(png(1)), sure=False)
    assert (root / RECORD).read_bytes() == b""


def test_a_dry_run_names_images_and_look_alikes_and_writes_nothing():
    before = tree(built() / "data")
    lines = erase(built(), digest(png(1)), dry_run=True)
    assert lines[0].startswith("to withdraw: 1 image (noto-emoji 1)")
    assert lines[-1] == "nothing was done (--dry-run)"
    assert tree(built() / "data") == before


@pytest.mark.slow(5)
def test_purge_takes_the_bytes_out_of_the_cache(tmp_path):
    root = copied(tmp_path / "checkout")
    assert holders(root, png(6), (".dvc/cache",))
    erase(root, digest(png(6)), purge=True)
    assert holders(root, png(6), (".dvc/cache", *PLACES)) == []
    assert engine.stale(root)[0] == "encode"


@pytest.mark.slow
def test_a_version_that_was_trained_on_it_is_named(finished, tmp_path):
    root = tmp_path / "checkout"
    shutil.copytree(finished[0], root, symlinks=True)
    keys, rows = pack.read_keys(root / "data/pixels"), pack.read_split(root / "data/splits", "train")
    held_out = pack.read_split(root / "data/splits", "test")
    seen, unseen = keys[rows[0]], keys[held_out[0]]
    done = stillroom(root, "data", "withdraw", unseen, "--reason", "r", "--dry-run")
    assert "trained on 1 of them" not in done.stderr
    done = stillroom(root, "data", "withdraw", seen[:16], "--reason", "asked to", "--yes", "--no-purge")
    assert done.returncode == 0, done.stderr
    assert "denoiser version 1 (champion): was trained on 1 of them" in done.stderr
    place = next(row for row in shards.read_index(finished[0] / "data/raw").to_pylist() if row["sha256"] == seen)
    ((_, data),) = shards.read_bytes(finished[0] / "data/raw", [(place["shard"], place["row"])])
    assert holders(root, data) == []
    done = stillroom(root, "data", "diff", "v1", "now")
    assert done.returncode == 0, done.stderr
    assert "Removed: 1" in done.stdout
    assert "last pipeline run" in stillroom(root, "data", "diff").stdout
    # Once more, and nothing older stays: not in DVC's cache, not in MLflow, nowhere in the checkout.
    header = pack.read_header(finished[0] / "data/pixels")
    (pixels,) = pack.read_rows(finished[0] / "data/pixels", header, [int(rows[0])])
    assert holders(root, data, (".",)) and holders(root, bytes(pixels), (".",))
    assert list(root.glob(".stillroom/mlflow/**/data.html"))
    done = stillroom(root, "data", "withdraw", seen[:16], "--reason", "asked to", "--yes")
    assert done.returncode == 0 and "MLflow: the reports of 1 run removed" in done.stderr, done.stderr
    assert holders(root, data, (".",)) == ["./source.zip"] and holders(root, bytes(pixels), (".",)) == []
    assert not list(root.glob(".stillroom/mlflow/**/*.html"))
    other = stillroom(root, "data", "withdraw", keys[rows[1]], "--reason", "r", "--dry-run")
    assert "denoiser version 1 (champion): was trained on 1 of them" in other.stderr, "what it learnt from stays known"
    assert stillroom(root, "sync").returncode == 0
    assert not list(root.glob(".stillroom/mlflow/**/*.html"))
