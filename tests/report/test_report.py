"""The model report: its numbers, its limits, and what a browser makes of it."""

from __future__ import annotations

import json
import re

import pytest
import report_fixtures as made

from components.base.errors import UserError
from components.report.numbers import markdown
from components.report.params import ReportParams
from components.report.stage import report
from components.samples import drawn, pack

PARAMS = ReportParams(**made.REPORT)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report on a model with hostile labels, and its numbers."""
    paths = made.model_states(tmp_path_factory.mktemp("hostile"))
    return paths["page"], report(PARAMS, **paths)


@pytest.fixture(scope="module")
def shown(hostile):
    """The same in Chromium: wide, narrow and dark."""
    size = "getComputedStyle(document.querySelector('#samples ~ .samples .px')).width"
    return made.Views(hostile[0], wide=f"[document.title, document.scripts.length, {size}]")


def test_numbers_of_the_inputs_are_on_the_page(shown):
    text = shown["wide"].text
    assert "after 20,000 images seen" in text
    assert re.search(r"x0 error\s+0\.0234\s+0\.0221 to 0\.0249", text)
    assert re.search(r"Kernel distance \(EfficientNet-Lite0\)\s+0\.123\s+0\.11 to 0\.14; real images 0\.0021", text)
    assert re.search(r"Coverage \(EfficientNet-Lite0\)\s+0\.71\s+0\.66 to 0\.75; real images 0\.93", text)
    assert re.search(r"0\.9 to 0\.96\s+higher\s+18 against 6", text)
    assert "-0.001 to 0.004" in text  # the interval of the floor
    assert "87.6" in text and "31.5" in text
    assert "11.1 %" in text and "16.7 %" in text  # 2 of 18 samples as near as a copy, 1 of 6 held-out images
    assert "12 steps with guidance 2.5, seed 7" in text
    assert "rmse 0.05" in text and "similarity 0.9" in text
    assert "images seen" in text and "Learning rate" in text


@pytest.mark.parametrize(
    "view", ["wide", *(pytest.param(view, marks=pytest.mark.slow(5)) for view in ("narrow", "dark"))]
)
def test_the_page_is_silent_asks_nobody_and_fits(shown, view):
    assert shown[view].console == []
    assert shown[view].requests == []
    assert shown[view].overflow <= 0


def test_hostile_labels_and_card_are_text(shown):
    assert made.BREAKOUT in shown["wide"].text
    assert made.SCRIPT in shown["wide"].text
    assert shown["wide"].values["result"][:2] == ["Model report · Stillroom", 1]


def test_samples_are_enlarged_without_smoothing(hostile, shown):
    assert shown["wide"].values["result"][2] == f"{made.SIDE * made.REPORT['magnify']}px"
    assert "image-rendering: pixelated" in hostile[0].read_text("utf-8")


def test_no_score_is_called_fid(hostile):
    assert not re.search(r"\bFID\b", hostile[0].read_text("utf-8"), re.IGNORECASE)


def test_equal_inputs_give_equal_bytes_wherever_they_lie(hostile, tmp_path):
    paths = made.model_states(tmp_path / "else" / "where")
    report(PARAMS, **paths)
    assert paths["page"].read_bytes() == hostile[0].read_bytes()
    assert str(tmp_path).encode() not in paths["page"].read_bytes()


@pytest.mark.slow(7)
def test_augmented_images_are_shown_where_there_are_any(hostile, tmp_path):
    assert "Augmented images" not in hostile[0].read_text("utf-8")
    paths = made.model_states(tmp_path)
    made.add_augmented(paths["evaluation"])
    numbers = report(PARAMS, **paths)
    assert numbers["pictures"] == hostile[1]["pictures"] + 3 * 7
    shown = made.Views(paths["page"])
    for view in (shown["wide"], shown["narrow"], shown["dark"]):
        assert view.console == [] and view.requests == [] and view.overflow <= 0
        assert "turned +12°, cut by 20 %" in view.text and made.SCRIPT in view.text
    (paths["evaluation"] / "augmented.u8").write_bytes(b"123")
    with pytest.raises(UserError, match=r"augmented\.u8: 3 bytes, wanted 13824"):
        report(PARAMS, **paths)


@pytest.mark.parametrize("shape", [(8, 12), (12, 8)], ids=["wide", "tall"])
def test_images_that_are_not_square_keep_their_shape(tmp_path, shape):
    paths = made.model_states(tmp_path, hostile=False, shape=shape)
    made.add_augmented(paths["evaluation"], (*shape, 3))
    numbers = report(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    assert numbers["pictures"] > 40
    assert f"{shape[1]} × {shape[0]} pixels, enlarged 3 times" in text
    for name in ("sample", "film", "near", "aug"):
        assert f".{name}0{{--s:{3 * shape[1]}px;" in text
    assert text.count(f"--t:{3 * shape[0]}px;height:var(--t)") == 4
    info = json.loads((paths["evaluation"] / "samples.json").read_text())
    (paths["evaluation"] / "samples.json").write_text(json.dumps(info | {"height": shape[1], "width": shape[0]}))
    words = f"samples of {shape[0]} × {shape[1]} pixels, training images of {shape[1]} × {shape[0]}: run stage"
    with pytest.raises(UserError, match=words):
        report(PARAMS, **paths)
    del info["width"]
    (paths["evaluation"] / "samples.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"samples\.json: height, width and channels of pictures must be"):
        report(PARAMS, **paths)


def test_a_sweep_is_shown_with_its_knee_where_there_is_one(hostile, tmp_path):
    assert "Quality by sampling steps" not in hostile[0].read_text("utf-8")
    paths = made.model_states(tmp_path)
    scores = json.loads((paths["evaluation"] / "scores.json").read_text())
    scores["sweep"] = [
        {"steps": steps, "sampler": "dpmpp_2m", "guidance": 2.5, "autoguidance": 1.0, "calls": steps,
         "samples": 128, "value": kid, "low": kid - 0.1, "high": kid + 0.1,
         "change": {"value": kid - 0.5, "low": kid - 0.55, "high": kid - 0.45}}
        for steps, kid in ((4, 2.0), (8, 0.52), (16, 0.5))
    ]  # fmt: skip
    (paths["evaluation"] / "scores.json").write_text(json.dumps(scores | {"knee": scores["sweep"][1]}))
    report(PARAMS, **paths)
    text = re.sub("<[^>]+>", " ", paths["page"].read_text("utf-8"))
    assert "The knee lies at 8 steps" in text
    assert re.search(
        r"4\s+2\s+1\.9 to 2\.1\s+1\.45 to 1\.55\s+8\s+0\.52\s+0\.42 to 0\.62\s+-0\.03 to 0\.07\s+the knee", text
    )


def test_a_sweep_of_ways_is_a_table_of_what_each_costs_and_gives(tmp_path):
    paths = made.model_states(tmp_path)
    scores = json.loads((paths["evaluation"] / "scores.json").read_text())
    scores["sweep"] = [
        {"steps": 16, "sampler": "dpmpp_2m", "guidance": pull, "autoguidance": push, "calls": 16 * calls,
         "samples": 128, "value": kid, "low": kid - 0.1, "high": kid + 0.1, "change": {"value": 0, "low": 0, "high": 0},
         "agreement": {"value": 0.75, "change": {"value": 0.02, "low": -0.03, "high": 0.07}}}
        for pull, push, calls, kid in ((1.5, 2.0, 3, 2.25), (2.5, 1.0, 2, 4.5))
    ]  # fmt: skip
    (paths["evaluation"] / "scores.json").write_text(json.dumps(scores | {"knee": scores["sweep"][0]}))
    report(PARAMS, **paths)
    text = re.sub("<[^>]+>", " ", paths["page"].read_text("utf-8"))
    assert "The knee: 16 steps of dpmpp_2m, guidance 1.5, autoguidance 2." in text
    assert re.search(r"32\s+16\s+dpmpp_2m\s+2\.5\s+1\s+4\.5\s.*48\s+16\s+dpmpp_2m\s+1\.5\s+2\s+2\.25", text, re.S)
    assert re.search(r"75% \(-3% to \+7%\)\s+the knee", text)


def test_limits_hold_and_say_what_is_missing(tmp_path):
    paths = made.model_states(tmp_path)
    report(PARAMS.model_copy(update={"samples_per_class": 1, "films": 1, "neighbours": 1}), **paths)
    text = paths["page"].read_text("utf-8")
    assert "1 of 4 strips shown, 3 not shown." in text
    assert "1 of 18 pairs shown, 17 not shown." in text


def test_the_closest_pair_comes_first_and_is_marked(hostile):
    text = hostile[0].read_text("utf-8")
    assert text.index("rmse 0.05<") < text.index("rmse 0.06<") < text.index("rmse 0.07<")
    assert text.count("a copy: at most 0.061") == 2  # 0.05 and 0.06


def test_rows_of_samples_are_equally_long_with_as_many_real_images_beside_them(tmp_path):
    paths = made.model_states(tmp_path, hostile=False)
    for most, samples, real in ((6, 6, 4), (2, 2, 2)):
        report(PARAMS.model_copy(update={"samples_per_class": most}), **paths)
        part = paths["page"].read_text("utf-8").split('class="samples beside"')[1].split("</dl>")[0]
        rows = re.findall(r"<dd>(.*?)</dd><dd class=\"real\">(.*?)</dd>", part)
        assert [(row.count('role="img"'), other.count('role="img"')) for row, other in rows] == [(samples, real)] * 2
        assert "recognised 4 of 9, held-out images" in part


def test_copies_are_counted_by_label(tmp_path):
    paths = made.model_states(tmp_path, hostile=False)
    report(PARAMS, **paths)
    text = re.sub("<[^>]+>", " ", paths["page"].read_text("utf-8"))
    assert re.search(r"birds\s+9\s+1\s+11\.1 %\s+3\s+1\s+33\.3 %", text)
    assert re.search(r"fish\s+9\s+1\s+11\.1 %\s+3\s+0\s+0\.0 %", text)


def test_the_verdict_on_memorisation_follows_the_shares(tmp_path):
    paths = made.model_states(tmp_path)
    report(PARAMS, **paths)
    assert "No sign of memorisation" in paths["page"].read_text("utf-8")
    keys, ids = pack.read_keys(paths["pixels"]), [at % 3 for at in range(18)]
    drawn.write(paths["evaluation"], *made.tables(ids, ["a", "b", "c"], keys, limit=0.1))  # 6 of 18, still 1 of 6
    report(PARAMS, **paths)
    assert "closer to a training image than chance gives" in paths["page"].read_text("utf-8")


def test_a_model_without_labels_and_without_history(tmp_path):
    paths = made.model_states(tmp_path, classes=0, hostile=False)
    (paths["model"] / "history.jsonl").write_text("")
    report(PARAMS, **paths)
    text = paths["page"].read_text("utf-8")
    assert "(no label)" in text
    assert "none: the model takes no label" in text
    assert "The history of this model is empty." in text


def test_long_curves_are_thinned_and_keep_their_last_point(tmp_path):
    paths = made.model_states(tmp_path, hostile=False)
    lines = [{"step": step, "loss": 1.0} for step in range(1, 5001)] + [{"step": 5001, "loss": 2.0}]
    (paths["model"] / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report(PARAMS, **paths)
    found = re.findall(r'<polyline points="([^"]*)"[^>]*><title>loss<', paths["page"].read_text("utf-8"))
    (curve,) = (points.split() for points in found)
    assert 200 < len(curve) <= 401
    assert curve[-1].split(",")[1] != curve[-2].split(",")[1]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("scores.json", b"{", "scores.json: cannot be read"),
        ("samples.parquet", b"123", "samples.parquet: not the table of stage 'evaluate'"),
        ("samples.u8", b"123", r"samples.u8: 3 bytes, wanted 13824: run stage 'evaluate' again"),
    ],
)
def test_a_broken_evaluation_is_one_line(tmp_path, name, content, line):
    paths = made.model_states(tmp_path)
    (paths["evaluation"] / name).write_bytes(content)
    with pytest.raises(UserError, match=line):
        report(PARAMS, **paths)
    assert not paths["page"].exists()


def test_the_card_is_drawn_plainly_and_nothing_in_it_is_markup():
    text = (
        "---\nkey: value\n---\n\n# Title\n\nOne `code`\ntwo.\n\n- a\n- <b>\n\n```python\nx = '<script>'\ny\n```\n\nEnd"
    )
    assert "".join(markdown(text)) == (
        "<h3>Title</h3><p>One <code>code</code> two.</p><ul><li>a</li><li>&lt;b&gt;</li></ul>"
        "<pre>x = &#x27;&lt;script&gt;&#x27;\ny</pre><p>End</p>"
    )
