"""The data report: its numbers, its limits, its empty cases, and what a browser makes of it."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import report_fixtures as made
from hypothesis import example, given
from hypothesis import strategies as st

from components.base.errors import UserError
from components.describe import evidence
from components.describe.packed import MAP_SIDE, ZOOMS, zoom_levels
from components.describe.params import DescribeParams
from components.describe.sizes import histogram
from components.describe.stage import describe
from components.samples import looks, manifest

PARAMS = DescribeParams(**made.DESCRIBE)
MAP_USE = """...(() => {
  const plane = document.querySelector('.plane'), dot = document.querySelector('.plane i.train'), seen = [];
  const look = (key) => { document.querySelector(key)?.click(); seen.push(getComputedStyle(plane)
    .getPropertyValue('--z'), getComputedStyle(dot).visibility) };
  look('#none'); look('#zoom4'); look('#show-train');
  return [seen[0], seen[2], seen[1], seen[5]] })()"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report on hostile data, and its numbers."""
    paths = made.data_states(tmp_path_factory.mktemp("hostile"))
    return paths["page"], describe(PARAMS, **paths)


@pytest.fixture(scope="module")
def shown(hostile):
    """The same in Chromium: wide, narrow and dark."""
    drawn = "[...document.querySelectorAll('.px')].every(e => getComputedStyle(e).backgroundImage.startsWith('url'))"
    wide = f"[document.title, document.scripts.length, document.images.length, {drawn}]"
    return made.Views(hostile[0], wide=wide, dark=f"[getComputedStyle(document.body).backgroundColor, {MAP_USE}]")


@pytest.mark.parametrize("shape", [(8, 12), (12, 8)], ids=["wide", "tall"])
def test_images_that_are_not_square_keep_their_shape(tmp_path, shape):
    paths = made.data_states(tmp_path, images=12, hostile=False, shape=shape)
    describe(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    assert f"{shape[1]} × {shape[0]} pixels each" in text
    assert f"reads, {shape[1]} × {shape[0]} with 3 channels, enlarged 4 times" in text
    assert f".pack0{{--s:{4 * shape[1]}px;" in text and text.count(f"--t:{4 * shape[0]}px;height:var(--t)") == 1


def test_a_pack_of_other_samples_is_one_line(tmp_path):
    paths = made.data_states(tmp_path, images=12, hostile=False)
    header = paths["pixels"] / "header.json"
    raw = json.loads(header.read_text("utf-8"))
    raw |= {"format": 2, "spec": raw["spec"] | {"kind": "latent"}}
    header.write_text(json.dumps(raw), "utf-8")
    with pytest.raises(UserError, match="of kind latent and dtype u8: this works for images as bytes only"):
        describe(PARAMS, **paths)


def _section(path, key):
    """The markup of one section of the page."""
    return path.read_text("utf-8").split(f'aria-labelledby="{key}">')[1].split("</section>")[0]


def test_numbers_of_the_inputs_are_on_the_page(shown):
    text = shown["wide"].text
    assert "30 images came in from 1 source; 24 (80.0 %) are kept" in text
    assert re.search(r"Not imported\s+1\s", text)
    assert re.search(r"Rejected\s+4\s+17\.2 % of what came in was rejected or not imported", text), "5 of 29"
    assert re.search(r"Gone\s+1\s+no longer in their source; 1 more were withdrawn by hand", text)
    assert "climbs out of the source" in text
    assert "3 bits of 256 differ · colour differs by 0.0123" in text
    assert "alike, kept as two" in text and "differs by 0.31" in text
    assert "24 × 20" in text
    assert "none lies in two of train, val and test" in text


@pytest.mark.parametrize(
    "view", ["wide", *(pytest.param(view, marks=pytest.mark.slow(5)) for view in ("narrow", "dark"))]
)
def test_the_page_is_silent_asks_nobody_and_fits(shown, view):
    assert shown[view].console == []
    assert shown[view].requests == []
    assert shown[view].overflow <= 0


def test_hostile_names_are_text(shown):
    text = shown["wide"].text
    assert made.SCRIPT in text
    assert made.BREAKOUT[:20] in text
    assert "photo⟨U+202E⟩gnp.exe␀" in text
    assert made.LONG[:200] not in text
    assert "more characters)" in text
    assert shown["wide"].values["result"][:3] == ["Data report · Stillroom", 1, 0]


@pytest.mark.slow(5)
def test_the_dark_scheme_is_dark(shown):
    red, green, blue = map(int, re.findall(r"\d+", shown["dark"].values["result"][0])[:3])
    assert max(red, green, blue) < 60


def test_broken_and_withdrawn_images_are_frames_with_a_reason(hostile):
    text = hostile[0].read_text("utf-8")
    for reason in ("damaged", "too large"):
        assert f">{reason}</span>" in text
    assert hostile[1]["unreadable"] == 0


def test_what_is_gone_is_shown_and_what_was_withdrawn_by_hand_is_only_named(hostile):
    text = _section(hostile[0], "withdrawn")
    gone, by_hand = text.split("Withdrawn by hand", 1)
    assert 'class="px soft raw0"' in gone
    assert hashlib.sha256(made.png(20)).hexdigest()[:12] in by_hand
    assert 'class="px' not in by_hand


def test_what_curators_decided_is_listed_the_newest_first_with_what_came_of_it(hostile, shown):
    text = _section(hostile[0], "decided")
    rows = re.findall(r"<tr>(.*?)</tr>", text.split("</thead>")[1], re.DOTALL)
    assert [re.search(r"<td>(keep|label|reject)</td>", row)[1] for row in rows] == ["reject", "keep", "keep", "label"]
    assert "it never came from a source of this data" in rows[0] and "e" * 16 in rows[0]
    assert ">withdrawn</span>" in rows[1] and "it was withdrawn" in rows[1]
    assert "rejected (near duplicate) → <b>kept</b>" in rows[2] and 'class="px soft raw0"' in rows[2]
    assert "&lt;script&gt;" in rows[3] and "2 decisions of 4 changes nothing" in text
    assert "Decided by curators" in shown["wide"].text


def test_what_is_worth_a_look_is_shown_by_flag_and_a_flag_of_another_pack_is_one_line(hostile, tmp_path):
    text = _section(hostile[0], "flagged")
    counts = re.findall(r"<summary><span>(\w+)</span><span class=\"count\">(\d+)</span>", text)
    assert counts == [("dark", "2"), ("blurred", "1"), ("long", "1"), ("small", "1"), ("label", "1")]
    assert (
        text.count('class="px soft raw0"') == 6
        and "&lt;/script&gt;?</span>" in text
        and "Nothing is rejected by this" in text
    )
    paths = made.data_states(tmp_path, images=12)
    manifest.write(
        paths["profile"] / looks.TABLE, manifest.rows([{"row": 99, "flag": "dark", "label": None}], manifest.LOOKS)
    )
    with pytest.raises(UserError, match=r"looks\.parquet: rows or flags that are not of this pack"):
        describe(PARAMS, **paths)


def test_without_a_decision_one_sentence_says_so(tmp_path):
    paths = made.data_states(tmp_path, images=12, drop=False)
    describe(PARAMS, **paths)
    assert "Nothing: every verdict is that of the rules." in _section(paths["page"], "decided")


def test_a_picture_withdrawn_by_hand_is_a_frame_wherever_it_is_asked_for(tmp_path):
    paths = made.data_states(tmp_path)
    del paths["page"]
    gallery = evidence.Gallery(evidence.read(**paths), paths["raw"], 48)
    assert ">withdrawn</span>" in gallery.cell(20, "by hand")
    assert gallery.css() == ""


def test_a_pair_stands_side_by_side_with_all_that_was_measured(hostile):
    card = _section(hostile[0], "groups").split('<li class="compare">')[1]
    assert card.count("<figure title=") == 2 and card.count('class="px soft big0"') == 2
    for measured in ("key points (ORB)", "5 bits of 256 differ", "differs by 0.31 of 1", "0.87", "41 inliers",
                     "turn 90"):  # fmt: skip
        assert measured in card


def test_a_quarantined_image_stands_beside_the_groups_it_would_join(hostile):
    (card,) = _section(hostile[0], "quarantine").split("<li title=")[1:]
    val, train = card.split('class="side"')[1:]  # the closer one first
    assert "tag train" in train and "9 bits of 256 differ" in train
    assert "tag val" in val and "8 bits of 256 differ" in val


def test_sources_name_licence_matte_and_refusals(shown):
    text = shown["wide"].text
    assert re.search(r"Apache-2\.0\s+#ffffff\s+15\s", text) and re.search(r"CC0-1\.0\s+#ffffff\s+15\s", text)
    assert re.search(r"zip\s+–\s+–\s+(0\s+){6}1\s", text)  # nothing came in, one was refused
    assert "stillroom data diff" in text


@pytest.mark.slow(5)
def test_the_map_comes_closer_and_hides_a_split_without_a_script(shown):
    assert shown["dark"].values["result"][1:] == ["1", "4", "visible", "hidden"]


def test_a_map_without_a_profile_is_a_sentence(tmp_path):
    paths = made.data_states(tmp_path, images=12)
    del paths["profile"]
    describe(PARAMS, **paths)
    assert "drawn from the profile of the data, which is missing" in paths["page"].read_text("utf-8")


def test_a_map_of_another_pack_is_one_line(tmp_path):
    paths = made.data_states(tmp_path / "a")
    other = made.data_states(tmp_path / "b", images=60)
    with pytest.raises(UserError, match=r"map\.parquet: rows or places .* run stage 'profile' again"):
        describe(PARAMS, **{**paths, "profile": other["profile"]})


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=40))
def test_pictures_of_the_whole_map_do_not_overlap(points):
    zooms = zoom_levels(np.array(points).reshape(-1, 2))
    shown = [(960 * x, 640 * y) for (x, y), zoom in zip(points, zooms, strict=True) if zoom == 1]
    assert all(abs(a - c) >= MAP_SIDE or abs(b - d) >= MAP_SIDE for (a, b), (c, d) in combinations(shown, 2))
    assert set(zooms) <= set(ZOOMS) and (not points or zooms[0] == 1)


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=60))
@example([879500000000.0, 879500000001.0])
def test_a_histogram_counts_every_value_once(values):
    steps = histogram(pd.Series(values))
    assert sum(number for _, number in steps) == len(values)
    assert len(steps) <= 9 and len({name for name, _ in steps}) == len(steps)


def test_equal_inputs_give_equal_bytes_wherever_they_lie(hostile, tmp_path):
    paths = made.data_states(tmp_path / "else" / "where")
    describe(PARAMS, **paths)
    assert paths["page"].read_bytes() == hostile[0].read_bytes()
    assert str(tmp_path).encode() not in paths["page"].read_bytes()


def test_limits_hold_and_say_what_is_missing(tmp_path):
    few = PARAMS.model_copy(update={"thumbnails": 2, "rows": 1, "seen_per_class": 1, "map_points": 2, "characters": 20})
    paths = made.data_states(tmp_path)
    numbers = describe(few, **paths)
    text = paths["page"].read_text("utf-8")
    assert "1 of 3 groups shown, 2 not shown." in text
    assert "1 of 3 rows shown, 2 not shown." in text
    assert re.search(r"2 of 3 labels shown, 1 not shown", text)
    assert numbers["pictures"] < 20
    assert "caption caption capt… (9,980 more characters)" in text


def test_the_most_doubtful_come_first(tmp_path):
    paths = made.data_states(tmp_path, images=60)
    describe(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    assert 0 < text.index("7 bits of 256 differ") < text.index("3 bits of 256 differ")


def test_no_thumbnails_at_all(tmp_path):
    paths = made.data_states(tmp_path)
    describe(PARAMS.model_copy(update={"thumbnails": 0, "seen_per_class": 0, "map_points": 0}), **paths)
    assert "0 of 1 images shown, 1 not shown." in paths["page"].read_text("utf-8")
    assert "base64" not in paths["page"].read_text("utf-8")


def test_nothing_dropped_no_groups_no_labels(tmp_path):
    paths = made.data_states(tmp_path, drop=False, labels=False, hostile=False)
    describe(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    for line in (
        "None: every file became an image", "Nothing was dropped", "No two images look alike",
        "No kept image has a label", "Nothing is in quarantine", "(no label)",
    ):  # fmt: skip
        assert line in text


def test_a_leak_is_said_aloud(tmp_path):
    paths = made.data_states(tmp_path, leak=True)
    describe(PARAMS, **paths)
    assert "the test scores will be too good" in paths["page"].read_text("utf-8")


def test_states_that_do_not_belong_together_are_one_line(tmp_path):
    paths = made.data_states(tmp_path / "a")
    other = made.data_states(tmp_path / "b", images=12)
    with pytest.raises(UserError, match=r"not the verdicts on the images .* run stage 'clean' again"):
        describe(PARAMS, **{**paths, "raw": other["raw"]})


def test_a_broken_thumbnail_is_crossed_out_and_counted(tmp_path, monkeypatch):
    from components.decode import images

    def broken(*args: object, **options: object):
        raise images.Damaged("damaged", "gone bad since")

    monkeypatch.setattr(images, "decode", broken)
    paths = made.data_states(tmp_path)
    assert describe(PARAMS, **paths)["unreadable"] > 0


def test_files_that_say_where_they_were_taken_are_counted_where_there_are_any(hostile):
    verdicts = manifest.read_any(hostile[0].parents[1] / "data/clean/verdicts.parquet", ["verdict", "position"])
    placed = sum(row["verdict"] == "kept" and row["position"] for row in verdicts)
    assert placed and re.search(rf"With a position.{{0,80}}>{placed}<", hostile[0].read_text("utf-8"), re.DOTALL)
