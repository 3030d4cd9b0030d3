"""Photographs are found by parts, drawings are held to more, and both whenever they come."""

import numpy as np
import pytest
from data_fixtures import pixels
from PIL import Image

from components.base import parallel
from components.clean import alignment, fingerprints, lists, rough, verify, windows
from components.clean.verify import Look, Rule

AUTO = Rule(max_distance="auto", max_difference=0.06, min_correlation="auto", min_inliers=12)


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    monkeypatch.setattr(parallel, "ordered", lambda function, batches, **_: (function(batch) for batch in batches))


def photo(seed):
    """Smooth blotches of several sizes with a grain: no two neighbouring cells have one colour."""
    grain = np.random.default_rng(seed).integers(-6, 7, (64, 64, 3))
    fine = np.asarray(Image.fromarray(pixels(seed + 500, 16)).resize((64, 64), Image.Resampling.BICUBIC))
    return np.clip(pixels(seed, 64) * 0.6 + fine * 0.4 + grain, 0, 255).astype(np.uint8)


def drawing(seed):
    array = np.full((64, 64, 3), 255, np.uint8)
    array[16:48, 16:48] = pixels(seed, 32)
    return array


def thumbs(pictures):
    return np.stack([fingerprints.thumbnail(np.ascontiguousarray(each)) for each in pictures])


def found(pictures, *, since=0, large=False):
    shown = thumbs(pictures)
    flags, records, grey = np.full(len(shown), large), windows.records(shown), rough.shrunk(shown)
    places = np.where(records["drawn"], -1, np.arange(len(shown)))
    pairs = windows.candidates(
        places, lambda at, window: records["waves"][at, window], lambda positions: grey[positions], flags, since
    )
    return {(int(a), int(b), int(way)) for a, b, way in pairs[["a", "b", "orientation"]].tolist()}


PARTS = {
    "a corner": lambda array: array[:58, 6:],
    "the middle": lambda array: array[6:-6, 6:-6],
    "without the top": lambda array: array[6:],
    "a shift": lambda array: np.roll(array, 4, axis=1),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_part_of_a_photograph_is_found_whichever_comes_first(part, mirrored):
    whole, other = photo(1), PARTS[part](photo(1))
    other = other[:, ::-1] if mirrored else other
    for pictures in ([whole, photo(2), other], [other, photo(2), whole]):
        assert found(pictures) == {(0, 2, int(mirrored))}


@pytest.mark.parametrize("way", range(8))
def test_a_whole_photograph_is_found_in_every_orientation(way):
    turned = fingerprints.seen(photo(3)[None], way)[0]
    back = {0: 0, 5: 6, 6: 5}.get(way, way)
    assert (0, 1, back) in found([photo(3), turned])


def test_drawings_are_not_looked_for_by_parts():
    drawn = drawing(1)
    assert fingerprints.drawn(thumbs([drawn, photo(1)])).tolist() == [True, False]
    assert found([drawn, drawn[4:, 4:]]) == set()


def test_candidates_are_the_same_at_once_and_in_steps():
    pictures = [each for n in range(6) for each in (photo(n), photo(n)[6:], drawing(n), photo(n)[:, 58::-1])]
    whole = found(pictures)
    assert len(whole) > 12
    for cut in (5, 11, 23):
        assert found(pictures[:cut]) | found(pictures, since=cut) == whole


def test_parts_that_fit_in_waves_alone_are_no_candidates_unless_corners_will_tell():
    pictures = [photo(n) for n in range(40)] + [np.roll(photo(n), 9, axis=0) for n in range(40)]
    assert found(pictures) <= found(pictures, large=True)


def verdict(one, other, rule=AUTO):
    looks = [Look(each, 64, 64) for each in thumbs([one, other])]
    return bool(verify.verify([(*looks, 0, 90)], rule=rule)[0]["found"])


def test_what_two_pictures_show_decides_what_is_asked_of_them():
    """A patch over a part: one photograph still, and another drawing."""
    for make, same in ((photo, True), (drawing, False)):
        changed = make(1).copy()
        changed[26:38, 26:38] = 20
        assert verdict(make(1), make(1)) and verdict(make(1), changed) == same
        assert verdict(make(1), changed, Rule(64, 0.06, 0.6, 12)), "a number in params.yaml holds for all"


def test_one_frame_around_two_photographs_does_not_make_them_one():
    framed = []
    for n in (1, 2):
        inner = np.repeat(photo(n).mean(axis=2, keepdims=True), 3, axis=2) * 0.7 + 30
        inner[:5], inner[-5:], inner[:, :5], inner[:, -5:] = 250, 250, 250, 250
        framed.append(
            np.clip(inner + np.random.default_rng(n).integers(0, 5, (*inner.shape[:2], 1)), 0, 255).astype(np.uint8)
        )
    shown = thumbs(framed)
    fit = alignment.still(shown[:1], shown[1:])[0]
    assert fit.correlation >= verify.PHOTOGRAPHS, "by its slopes alone it would be one"
    assert fit.even < fit.correlation and not verdict(*framed)


def test_a_movement_back_undoes_the_movement():
    movement = np.array([[0.9, 0.1, 2.0], [-0.1, 0.8, 1.0]])
    back = alignment.Fit(movement, 1.0, 0.0, 1.0, 1.0, 1.0).back().movement
    point = np.array([3.0, 4.0])
    np.testing.assert_allclose(back[:, :2] @ (movement[:, :2] @ point + movement[:, 2]) + back[:, 2], point)


@pytest.mark.parametrize("flat", [3, pytest.param(7, marks=pytest.mark.slow(5))])
def test_candidates_past_the_first_are_the_same_at_once_and_in_steps(flat, monkeypatch):
    """What comes later is looked for in more and smaller buckets: its place decides, and not how many come."""
    monkeypatch.setattr(lists, "FLAT", flat)
    pictures = [each for n in range(9) for each in (photo(n), photo(n)[6:], drawing(n), photo(n)[:, 58::-1])]
    whole = found(pictures)
    assert len(whole) > 12
    for cut in (2, 5, 13, 29):
        assert found(pictures[:cut]) | found(pictures, since=cut) == whole
