"""The profile of a data set: counts, vectors that are computed once, and a map."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_fixtures import digests, pixels
from report_fixtures import data_states

from components.base.errors import UserError
from components.embed import vectors
from components.profile import stage
from components.profile.params import ProfileParams
from components.profile.stage import counts, profile, summary
from components.samples import manifest

PARAMS = ProfileParams(embedding="colours", images=100)


@pytest.fixture
def made(tmp_path):
    """The keywords of stage `profile` on thirty hostile images."""
    paths = data_states(tmp_path)
    return {
        **{name: paths[name] for name in ("raw", "verdicts", "pixels")},
        "profile": tmp_path / "data" / "profile",
        "facts": tmp_path / "facts",
    }


def content(paths) -> dict:
    return json.loads((paths["profile"] / "profile.json").read_text("utf-8"))


def test_it_counts_what_came_in_and_what_was_kept(made):
    numbers = profile(PARAMS, **made)
    found = content(made)
    verdicts = manifest.read(made["verdicts"] / "verdicts.parquet", manifest.VERDICTS, stage="clean").to_pylist()
    refused = manifest.read(made["raw"] / "refused.parquet", manifest.REFUSED, stage="collect").to_pylist()
    rejected = sum(row["verdict"] == "rejected" for row in verdicts)
    assert rejected and refused
    assert (found["images"], found["came_in"]) == (24, 24 + rejected + len(refused))
    assert sum(found["rejected"].values()) == rejected + len(refused)
    assert numbers["rejected_share"] == found["rejected_share"] == pytest.approx(1 - 24 / found["came_in"], abs=1e-6)
    assert sum(found["labels"].values()) + found["unlabelled"] == 24
    assert sum(source["kept"] for source in found["sources"].values()) == 24
    assert len(found["mean"]) == vectors.WIDTHS["colours"] and found["spread"] > 0


def test_what_somebody_withdrew_did_not_come_in():
    row = {"source": "a", "label": None, "reason": None, "verdict": "kept", "text": "a cat", "licence": "CC0"}
    rows = [row, {**row, "verdict": "withdrawn", "reason": "gone"}, {**row, "verdict": "rejected", "reason": "damaged"}]
    found = counts(rows, [{"source": "b", "reason": "withdrawn"}, {"source": "b", "reason": "too_big"}])
    assert (found["images"], found["came_in"], found["rejected"]) == (1, 3, {"damaged": 1, "too_big": 1})
    assert found["sources"] == {"a": {"kept": 1, "rejected": 1, "unreached": 0, "captioned": 1},
                                "b": {"kept": 0, "rejected": 1, "unreached": 0, "captioned": 0}}  # fmt: skip
    assert (found["captioned"], found["licences"]) == (1, {"CC0": 1})


def test_what_an_address_did_not_give_is_no_image_that_was_rejected():
    row = {"source": "a", "label": None, "reason": None, "verdict": "kept", "text": None, "licence": "CC0"}
    refused = [{"source": "a", "reason": reason} for reason in ("http_4xx", "http_4xx", "timeout", "too_big")]
    found = counts([row], refused)
    assert (found["came_in"], found["rejected"], found["rejected_share"]) == (2, {"too_big": 1}, 0.5)
    assert found["unreached"] == {"http_4xx": 2, "timeout": 1}
    assert found["sources"] == {"a": {"kept": 1, "rejected": 1, "unreached": 3, "captioned": 0}}


def test_each_label_that_has_enough_pictures_has_a_mean_of_its_own(made, monkeypatch):
    monkeypatch.setattr(stage, "_ENOUGH", 3)
    profile(PARAMS, **made)
    found = content(made)
    means = found["label_means"]
    assert means and set(means) <= set(found["labels"])
    assert all(3 <= each["embedded"] <= found["labels"][label] for label, each in means.items())
    assert all(len(each["mean"]) == len(found["mean"]) for each in means.values())


def test_the_bytes_do_not_depend_on_what_is_known_already(made):
    profile(PARAMS, **made)
    first = digests(made["profile"])
    assert list(made["facts"].rglob("*.facts"))
    profile(PARAMS, **made)
    assert digests(made["profile"]) == first
    for part in made["facts"].rglob("*.facts"):
        part.write_bytes(part.read_bytes()[:-1])
    profile(PARAMS, **made)
    assert digests(made["profile"]) == first


def test_pictures_that_are_not_square_are_embedded_and_their_size_is_told(tmp_path):
    paths = data_states(tmp_path, images=8, drop=False, hostile=False, shape=(8, 12))
    made = {name: paths[name] for name in ("raw", "verdicts", "pixels", "profile")} | {"facts": tmp_path / "facts"}
    assert profile(PARAMS, **made)["embedded"] == 8
    assert content(made)["side"] == "12 x 8"


def test_a_picture_is_embedded_once(made, monkeypatch):
    profile(PARAMS, **made)
    monkeypatch.setattr(vectors, "embed", lambda batch, name: pytest.fail("embedded again"))
    profile(PARAMS.model_copy(update={"images": 20}), **made)
    assert content(made)["embedded"] == 20


def test_few_pictures_are_those_of_the_smallest_hashes(made):
    profile(PARAMS.model_copy(update={"images": 10}), **made)
    table = manifest.read(made["profile"] / "map.parquet", manifest.MAP, stage="profile").to_pydict()
    keys = (made["pixels"] / "keys.sha256").read_bytes()
    names = [keys[at : at + 32] for at in range(0, len(keys), 32)]
    assert {names[row] for row in table["row"]} == set(sorted(names)[:10])
    assert all(0 <= value <= 1 for axis in "xy" for value in table[axis])


def test_the_network_gives_a_vector_that_its_companions_do_not_change():
    batch = [pixels(seed, side=16) for seed in range(3)]
    alone = vectors.embed(batch[1:2], name="efficientnet_lite0")[0]
    among = vectors.embed(batch, name="efficientnet_lite0")[1]
    assert alone.shape == (1280,) and alone.dtype == np.float16
    np.testing.assert_array_equal(alone, among)


@pytest.mark.parametrize("side", [8, 13, 32])
def test_colours_tell_colours_and_edges(side):
    red, noise = np.zeros((side, side, 3), np.uint8), pixels(1, side)
    red[..., 0] = 255
    found = vectors.embed([red, noise], name="colours")
    assert found[0].shape == (256,)
    np.testing.assert_array_equal(found[0][:192].reshape(-1, 3), np.tile([1, 0, 0], (64, 1)))
    assert not found[0][192:].any() and found[1][192:].any()


def test_two_kinds_of_pictures_lie_apart_on_the_map():
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0, 1, (60, 40)), rng.normal(2, 1, (40, 40))])
    places = vectors.flat_map(two)
    assert places.shape == (100, 2) and places.min() >= 0 and places.max() <= 1
    assert places[:60, 0].max() < places[60:, 0].min()  # the smaller kind is the longer tail
    np.testing.assert_array_equal(places, vectors.flat_map(two))
    assert vectors.flat_map(two[:2]).tolist() == [[0.5, 0.5]] * 2


def test_the_spread_is_a_distance():
    assert summary(np.array([[0.0, 0.0], [6.0, 8.0]], np.float16)) == {"mean": [3.0, 4.0], "spread": 5.0}


def test_a_pack_of_other_verdicts_is_refused(made):
    path = made["pixels"] / "keys.sha256"
    path.write_bytes(path.read_bytes()[32:] + bytes(32))
    with pytest.raises(UserError, match="run stage 'resize' again"):
        profile(PARAMS, **made)


@pytest.mark.slow(6)
def test_a_profile_of_known_pictures_starts_without_torch(made):
    params = {"embedding": "efficientnet_lite0", "images": 10}
    profile(ProfileParams(**params), **made)
    paths = {name: str(path) for name, path in made.items()}
    code = (
        "import sys; from pathlib import Path; from components.profile.params import ProfileParams\n"
        "from components.profile.stage import profile\n"
        f"paths = {{name: Path(path) for name, path in {paths!r}.items()}}\n"
        f"profile(ProfileParams(**{params!r}), **paths); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]).returncode == 0
