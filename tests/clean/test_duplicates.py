"""Candidates are the same whoever asks when, and each verifier tells copies from other pictures."""

from itertools import pairwise

import numpy as np
import pytest
from data_fixtures import encoded, pixels
from PIL import Image

from components.base import parallel
from components.clean import alignment, embedding, fingerprints, keypoints, lists, search, verify
from components.clean.verify import Look, Rule

INVERSE = (0, 1, 2, 3, 4, 6, 5, 7)  # the orientation that undoes each
RULE = Rule(max_distance=64, max_difference=0.06, min_correlation=0.8, min_inliers=12)


def prints(pictures):
    thumbs = np.stack([fingerprints.thumbnail(picture) for picture in pictures])
    return fingerprints.hashes(thumbs), thumbs


def crowd(count):
    """Pictures of which many are near others, mirrored or not."""
    pictures = []
    for n in range(count):
        array = pixels(n % 9, 40)
        pictures.append(np.clip(array.astype(int) + n, 0, 255).astype(np.uint8)[:, :: -1 if n % 2 else 1])
    return pictures


@pytest.mark.parametrize("flat", [100_000, 16])
def test_candidates_are_the_same_at_once_and_in_steps(flat, monkeypatch):
    """Also past FLAT, where lists are looked into that the first images laid out."""
    monkeypatch.setattr(lists, "FLAT", flat)
    monkeypatch.setattr(verify, "_BLOCK", 8)
    monkeypatch.setattr(parallel, "workers", lambda: 1)
    hashes, thumbs = prints(crowd(61))
    whole = verify.candidates(hashes, thumbs.__getitem__, 0, 64)
    assert len(whole) > 60 and set(whole["orientation"].tolist()) >= {0, 1}
    for cut in (5, 16, 17, 40, 60):
        early = verify.candidates(hashes[:cut], thumbs.__getitem__, 0, 64)
        late = verify.candidates(hashes, thumbs.__getitem__, cut, 64)
        np.testing.assert_array_equal(np.sort(np.concatenate([early, late])), np.sort(whole))


def test_a_candidate_comes_in_its_nearest_orientation():
    array = pixels(1, 48)
    hashes, thumbs = prints([array, np.ascontiguousarray(array[::-1])])
    (found,) = verify.candidates(hashes, thumbs.__getitem__, 0, 64)
    assert (found["a"], found["b"], fingerprints.ORIENTATIONS[found["orientation"]]) == (0, 1, "flip turn 180")


def look(array, corners=False):
    record = keypoints.corners(array) if corners else None
    return Look(fingerprints.thumbnail(array), array.shape[1], array.shape[0], record)


def photo(seed, side=220):
    """Blotches of many sizes, so that there are corners."""
    random = np.random.default_rng(seed)
    out = np.zeros((side, side, 3))
    for cells in (4, 11, 30, 60):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        out += np.asarray(coarse.resize((side, side), Image.Resampling.NEAREST), float) / 4
    return out.astype(np.uint8)


def turned(array, degrees):
    return np.asarray(Image.fromarray(array).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)))


EDITS = {
    "crop": lambda array: array[: len(array) * 8 // 10, len(array) // 10 :],
    "half": lambda array: np.asarray(Image.fromarray(array).resize([len(array) // 2] * 2, Image.Resampling.BICUBIC)),
    "turned by 5 degrees": lambda array: turned(array, 5),
    "JPEG": lambda array: np.asarray(Image.open(__import__("io").BytesIO(encoded(array, "JPEG", quality=40)))),
    "grey": lambda array: np.asarray(Image.fromarray(array).convert("L").convert("RGB")),
    "brighter": lambda array: np.clip(array * 1.2 + 10, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("large", [False, True])
def test_edited_copies_are_found_and_other_pictures_are_not(edit, large):
    array, other = (photo(1), photo(2)) if large else (pixels(1, 48), pixels(2, 48))
    batch = [(look(array, large), look(EDITS[edit](each), large), 0, 90) for each in (array, other)]
    copy, stranger = verify.verify(batch, rule=RULE)
    assert copy["found"] and not stranger["found"]
    assert (copy["inliers"] >= 12) == large
    if edit in ("grey", "crop"):
        assert not copy["same"], "other colours, or a part: of the group, and kept"


def test_the_same_logo_on_two_photographs_does_not_make_them_one():
    one, other = photo(1), photo(2)
    one[:60, :90] = other[:60, :90] = photo(3)[:60, :90]
    verdict = verify.verify([(look(one, True), look(other, True), 0, 90)], rule=RULE)[0]
    assert verdict["inliers"] > 0 and not verdict["found"]


def test_corners_tell_how_the_later_one_lies():
    array = photo(4)
    for number in range(8):
        back = fingerprints.seen(array[None], INVERSE[number])[0]
        verdict = verify.verify([(look(array, True), look(np.ascontiguousarray(back), True), 0, 90)], rule=RULE)[0]
        assert verdict["found"] and verdict["orientation"] == number


@pytest.mark.parametrize(("greys", "correlation"), [((9, 200), 1.0), ((9, None), 0.0)])
def test_flat_pictures_are_alike_among_themselves_only(greys, correlation):
    thumbs = [np.full((1, 32, 32, 3), grey, np.uint8) if grey is not None else fingerprints.thumbnail(pixels(1))[None]
              for grey in greys]  # fmt: skip
    assert alignment.still(*thumbs)[0].correlation == correlation


def test_a_batch_changes_no_verdict():
    batch = [(look(pixels(n % 4, 48)), look(np.roll(pixels(n % 3, 48), n, axis=1)), n % 8, 90) for n in range(70)]
    alone = np.concatenate([verify.verify([each], rule=RULE) for each in batch])
    np.testing.assert_array_equal(verify.verify(batch, rule=RULE), alone)


def test_features_pair_an_image_with_the_nearest_before_it_at_once_and_in_steps():
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 30))
    units = embedding.whole(centres[np.arange(80) % 4] + 0.3 * random.normal(size=(80, 30)))
    whole = embedding.near(units, 0, 0.6)
    assert set((whole.b - whole.a) % 4) == {0} and np.bincount(whole.b).max() == embedding.NEAREST
    early, late = embedding.near(units[:33], 0, 0.6), embedding.near(units, 33, 0.6)
    both = search.gathered([early, late])
    np.testing.assert_array_equal(both.a, whole.a)
    np.testing.assert_array_equal(both.b, whole.b)


@pytest.mark.parametrize("flat", [200, 208, 215])
def test_the_same_images_have_the_same_candidates_in_however_many_goes_they_came(monkeypatch, flat):
    """Near FLAT a block was searched exactly or by lists, as it was full or not when it came."""
    monkeypatch.setattr(lists, "FLAT", flat)
    monkeypatch.setattr(lists, "_LISTS", 5)
    monkeypatch.setattr(lists, "_PROBES", 2)
    monkeypatch.setattr(verify, "_BLOCK", 16)
    monkeypatch.setattr(parallel, "ordered", lambda function, batches, **_: (function(batch) for batch in batches))
    thumbs = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), np.uint8)
    hashes = fingerprints.hashes(thumbs)

    def found(*goes):
        parts = [verify.candidates(hashes[:end], thumbs.__getitem__, start, 118) for start, end in pairwise(goes)]
        return sorted(np.concatenate(parts)[["a", "b", "orientation", "distance"]].tolist())

    once = found(0, 300)
    assert once
    for middle in (195, 200, 204, 209, 216, 230):
        assert found(0, middle, 300) == once, middle
    assert found(0, 201, 205, 210, 290, 300) == once
