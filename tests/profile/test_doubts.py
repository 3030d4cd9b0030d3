"""Which labels may be wrong: planted ones are found, and nothing is said where nothing can be known."""

import numpy as np
import pytest

from components.profile import doubts


def made(seed, *, count=120, classes=3, width=16, wrong=()):
    """Vectors of ``classes`` in heaps of their own, their labels, and the rows in ``wrong`` labelled as the next."""
    rng = np.random.default_rng(seed)
    own = np.arange(count) % classes
    vectors = rng.normal(size=(classes, width))[own] * 3 + rng.normal(size=(count, width))
    said = [(one + (row in wrong)) % classes for row, one in enumerate(own)]
    return vectors.astype(np.float16), [f"class {one}" for one in said], [f"class {one}" for one in own]


@pytest.mark.parametrize("seed", range(5))
def test_wrong_labels_are_found_with_the_right_ones_and_sound_data_have_none(seed):
    vectors, said, true = made(seed, wrong={5, 40, 77})
    assert doubts.doubtful(vectors, said) == {row: true[row] for row in (5, 40, 77)}
    assert doubts.doubtful(vectors, true) == {}


def test_labels_that_the_vectors_do_not_tell_are_in_no_doubt():
    vectors = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float16)
    assert doubts.doubtful(vectors, [f"class {row % 4}" for row in range(200)]) == {}


def test_few_pictures_of_a_label_and_those_without_one_are_left_out():
    vectors, said, true = made(1, wrong={5})
    some = [None if row % 9 == 0 and row != 5 else label for row, label in enumerate(said)]
    assert doubts.doubtful(vectors, some) == {5: true[5]}
    rare = ["rare" if row < doubts.ENOUGH - 1 and label == said[0] else label for row, label in enumerate(true)]
    assert not {row for row, label in enumerate(rare) if label == "rare"} & doubts.doubtful(vectors, rare).keys()
    assert doubts.doubtful(vectors, ["one"] * len(said)) == doubts.doubtful(vectors, [None] * len(said)) == {}


def test_what_is_said_without_a_picture_is_what_a_training_without_it_says():
    vectors, said, _ = made(2, count=30, width=4)
    own = np.array([int(label[-1]) for label in said])
    found = doubts._held_out(vectors.astype(np.float64), own, 3)
    scaled = vectors.astype(np.float64)
    scaled = (scaled - scaled.mean(0)) / (scaled.std(0) + 1e-3)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    targets = np.eye(3)[own]
    rest = np.arange(30) != 7
    base = targets.mean(0)
    weights = np.linalg.solve(scaled[rest].T @ scaled[rest] + doubts.RIDGE * np.eye(4),
                              scaled[rest].T @ (targets[rest] - base))  # fmt: skip
    assert np.allclose(found[7], scaled[7] @ weights + base)
