"""benchmarks/copies.py runs the stages as they are: a benchmark that a new parameter breaks tells nobody."""

import sys
from pathlib import Path

import pytest
from data_fixtures import pixels
from PIL import Image


@pytest.mark.slow(6)
def test_it_finds_a_copy_by_the_values_of_params_yaml(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    monkeypatch.setattr(sys, "argv", ["copies"])
    import copies

    originals = [Image.fromarray(pixels(seed, 64)) for seed in (1, 2)]
    smaller = [picture.resize((48, 48), Image.Resampling.BICUBIC) for picture in originals]
    for _ in range(2):  # a second edit, with what is known of the originals
        assert copies._pairs([*originals, *smaller], tmp_path) == {(0, 2), (1, 3)}
