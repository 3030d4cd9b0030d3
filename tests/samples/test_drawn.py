"""The tables of samples and of held-out images, and the copies that are counted from them."""

import math

import pytest
import report_fixtures as made

from components.base.errors import UserError
from components.samples import drawn, tallies


def columns(count=18):
    keys = [f"{at:064x}" for at in range(30)]
    return made.tables([at % 3 - 1 for at in range(count)], ["a", "b"], keys)


def test_what_is_written_is_read_and_equal_columns_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        drawn.write(tmp_path / name, *columns())
    for file in (drawn.SAMPLES_FILE, drawn.HELD_OUT_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    rows = drawn.samples(tmp_path / "one", features=True)
    assert len(rows) == 18 and rows[4]["sample"] == 4 and rows[4]["features"] == [1.0, 2.0]
    assert [row["label"] for row in rows[:3]] == [None, "a", "b"]
    assert "features" not in drawn.samples(tmp_path / "one")[0]
    assert len(drawn.held_out(tmp_path / "one")) == 6


def test_a_table_that_is_not_one_is_a_line(tmp_path):
    with pytest.raises(UserError, match=r"samples\.parquet: not the table of stage 'evaluate' .*: run it again"):
        drawn.samples(tmp_path)


def rows(**labels):
    """``a=(copies, others)``: rows with those labels."""
    return [{"label": name or None, "copy": at < hits} for name, (hits, rest) in labels.items()
            for at in range(hits + rest)]  # fmt: skip


def test_copies_are_counted_by_class_and_against_the_held_out_of_the_class():
    drawn_rows, real = rows(a=(3, 1), b=(0, 4), c=(1, 1)), rows(a=(1, 9), b=(2, 2))
    found = tallies.by_class(drawn_rows, real, tallies.copy)
    assert list(found) == ["a", "b", "c"]
    assert (found["a"].share, found["a"].real_share) == (0.75, 0.1)
    assert (found["b"].share, found["b"].real_share) == (0.0, 0.5)
    assert (found["c"].real, found["c"].real_hits) == (14, 3), "no held-out image of it: all of them"
    assert tallies.by_class(drawn_rows, real, tallies.copy, alone=True)["c"].real == 0
    whole = tallies.tally(rows(a=(3, 1), b=(0, 4)), rows(a=(1, 9)), tallies.copy)
    assert (whole.share, whole.real_share) == (3 / 8, 0.1)
    assert tallies.tally([], [], tallies.copy).share == 0


def test_the_chance_is_that_of_the_hypergeometric_distribution():
    exact = sum(math.comb(4, k) * math.comb(10, 4 - k) for k in (3, 4)) / math.comb(14, 4)
    assert tallies.tally(rows(a=(3, 1)), rows(a=(1, 9)), tallies.copy).chance_of_more == pytest.approx(exact)
    assert tallies.at_least(0, 5, 3, 5) == pytest.approx(1)
    assert tallies.at_least(16, 16, 0, 5) == pytest.approx(1 / math.comb(21, 5))
    assert 0 < tallies.at_least(900, 1000, 100, 1000) < 1e-200


def test_labels_that_the_classifier_finds_are_counted_where_there_are_both():
    drawn_rows = [{"label": label, "predicted": other} for label, other in ("aa", "ab", "bb", (None, "a"), ("a", None))]
    found = tallies.tally(drawn_rows, [{"label": "a", "predicted": "a"}] * 4, tallies.recognised)
    assert (found.samples, found.hits, found.real, found.real_hits) == (3, 2, 4, 4)
    fewer = tallies.Tally(samples=20, hits=1, real=20, real_hits=19)
    assert fewer.chance_of_fewer < 1e-6 and fewer.chance_of_more > 0.999
