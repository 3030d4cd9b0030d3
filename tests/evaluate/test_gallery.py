"""Rows of the report: as many pictures of a rare label as of a common one."""

import json
from collections import Counter

import torch

from components.evaluate import gallery

TRAIN = [0] * 90 + [1] * 9 + [-1] * 2 + [2]
MIX = [-1] * 2 + [0] * 30 + [1] * 3


def test_rare_labels_are_filled_up():
    extra = gallery.wanted(TRAIN, MIX)
    whole = Counter(extra) + Counter(number for number in MIX if number)
    assert Counter(extra) == {1: 5, 2: 8, -1: 6}
    assert whole[1] == whole[2] == whole[-1] == gallery.PER_LABEL
    assert gallery.wanted([0] * 9, [0] * 8) == []


def test_the_labels_with_the_most_images_have_rows():
    many = [number for number in range(50) for _ in range(1 + number % 2)]
    assert len(gallery.labels(many)) == gallery.LABELS
    assert set(range(1, 50, 2)) <= set(gallery.labels(many))


def test_each_row_names_its_samples_and_real_images_of_its_label(tmp_path):
    extra = gallery.wanted(TRAIN, MIX)
    made = torch.zeros(len(extra), 4, 4, 3, dtype=torch.uint8)
    rows = [1000 + at for at in range(len(TRAIN))]
    gallery.write(tmp_path, extra, [made], rows=rows, train_ids=TRAIN, class_ids=MIX, order=range(len(MIX)))
    found = json.loads((tmp_path / "gallery.json").read_text())
    assert len((tmp_path / "gallery.u8").read_bytes()) == len(extra) * 4 * 4 * 3
    assert [row["class_id"] for row in found["labels"]] == [0, 1, 2, -1]
    for row in found["labels"]:
        assert len(row["samples"]) + len(row["extra"]) == gallery.PER_LABEL
        assert all(MIX[at] == row["class_id"] for at in row["samples"])
        assert all(extra[at] == row["class_id"] for at in row["extra"])
        assert all(TRAIN[at - 1000] == row["class_id"] for at in row["real"])
        assert len(row["real"]) == len(set(row["real"])) == min(gallery.PER_LABEL, TRAIN.count(row["class_id"]))
