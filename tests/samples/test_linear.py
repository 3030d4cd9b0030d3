"""Four times the data takes four times the steps, where it once took sixteen: counted in lines of code that ran."""

import hashlib
import sys

import numpy as np
import pandas as pd
import pytest

from components.clean import judge, pairs
from components.describe import packed
from components.describe.overview import Limits
from components.export import formats
from components.html.sprites import Sprites
from components.samples import pack
from components.samples import spec as specs
from components.samples.catalogue import Known


def lines(work):
    """How many lines of Python ``work`` runs."""
    count = 0

    def step(frame, event, argument):
        nonlocal count
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def digest(at):
    return hashlib.sha256(str(at).encode()).hexdigest()


def tombstones(count, folder):
    facts = {"pixel_sha256": None, "phash": None, "width": 1, "height": 1}
    rows = [{"sha256": digest(at), "source": "s", "source_key": str(at), **facts} for at in range(count)]
    known = Known(rows, {})
    return lambda: known.tombstones([row["sha256"] for row in rows], "asked for")


def exported(count, folder):
    rows = [{"size": formats.SHARD_BYTES // 3} for _ in range(count)]
    return lambda: [list(part) for _, part in formats._parts(((row, b"") for row in rows), rows)]


def seen(count, folder):
    """As many labels as images."""
    folder.mkdir()
    classes = [f"{at:06d}" for at in range(count)]
    pack.write(folder, [bytes(3)] * count, spec=specs.image((3, 1, 1)), keys=[digest(at) for at in range(count)],
               classes=classes, class_ids=range(count))  # fmt: skip

    class Data:
        """The part of the evidence that is asked for."""

        header, pixels = pack.read_header(folder), folder
        kept = pd.DataFrame({
            "split": "train", "row": range(count), "sha256": [digest(at) for at in range(count)],
            "arrival": range(count), "source_key": classes, "text": None, "label": classes,
        })  # fmt: skip

        def pack_row(self, row):
            return pack.picture(pack.read_row(self.pixels, self.header, row), self.header.picture_shape(row))

    limits = Limits(rows=5, characters=20, pictures=5, members=5, per_class=2)
    return lambda: packed.seen(Data(), limits, Sprites("pack", 1, 1))


def grouped(count, folder):
    """One chain of all images."""
    chain = np.zeros(count - 1, pairs.PAIR)
    chain["a"], chain["b"] = np.arange(count - 1), np.arange(1, count)
    return lambda: judge._founders(chain, count)


@pytest.mark.parametrize("work", [tombstones, exported, seen, grouped])
def test_steps_grow_as_the_data_does(work, tmp_path):
    some = [lines(work(count, tmp_path / str(count))) for count in (100, 400)]
    assert some[1] < 5 * some[0]
