"""Precision, recall, density, coverage and the classifier: small sets whose answers are counted by hand."""

import pytest
import torch

from components.evaluate import classifier, manifold, scores


def line(*places):
    return torch.tensor(places, dtype=torch.float32)[:, None]


def test_the_radius_is_the_distance_of_the_kth_other_image():
    assert manifold.radii(line(0, 1, 3, 7).double(), 2).tolist() == pytest.approx([3, 2, 3, 6])
    assert manifold.radii(line(0, 1).double(), 5).tolist() == pytest.approx([1, 1]), "the farthest of fewer"
    assert manifold.radii(line(4).double(), 3).tolist() == pytest.approx([0])


def test_the_four_scores_on_a_line(monkeypatch):
    """With the nearest other image as radius: balls of real images 0, 1, 3, 20 have radii 1, 1, 2, 17."""
    monkeypatch.setattr(manifold, "NEAREST_PR", 1)
    monkeypatch.setattr(manifold, "NEAREST_DC", 1)
    found = manifold.per_image(line(0.5, 2.5, 40), line(0, 1, 3, 20))
    assert found["precision"].tolist() == [1, 1, 0], "40 is in no ball"
    # 0.5 lies in the balls of 0 and 1; 2.5 in that of 3 and not in that of 1, whose edge is at 2. 20's begins at 3.
    assert found["density"].tolist() == [2, 1, 0]
    assert found["coverage"].tolist() == [1, 1, 1, 0], "no sample in the ball of 20"
    # Balls of the samples have radii 2, 2, 37.5: the last begins at 2.5.
    assert found["recall"].tolist() == [1, 1, 1, 1]
    assert manifold.per_image(line(0.5, 2.5), line(0, 1, 3, 20))["recall"].tolist() == [1, 1, 1, 0]


def test_real_images_in_place_of_samples_are_precise_and_one_repeated_image_covers_little():
    source = torch.Generator().manual_seed(0)
    real, other = torch.randn(200, 4, generator=source), torch.randn(200, 4, generator=source)
    same = {name: float(value.mean()) for name, value in manifold.per_image(other, real).items()}
    collapsed = {
        name: float(value.mean()) for name, value in manifold.per_image(other[:1].repeat(200, 1) * 0.1, real).items()
    }
    assert same["precision"] > 0.6 and same["recall"] > 0.6 and same["coverage"] > 0.85
    assert same["density"] == pytest.approx(1, abs=0.15), (
        "Naeem et al., section 3.3: 1 is expected of equal distributions"
    )
    assert collapsed["precision"] == 1 and collapsed["recall"] == 0 and collapsed["coverage"] < 0.2


def test_batches_change_nothing(monkeypatch):
    source = torch.Generator().manual_seed(1)
    fake, real = torch.randn(30, 3, generator=source), torch.randn(50, 3, generator=source)
    whole = manifold.per_image(fake, real)
    monkeypatch.setattr(manifold, "_BATCH", 7)
    for name, values in manifold.per_image(fake, real).items():
        torch.testing.assert_close(values, whole[name])


def test_the_interval_of_a_mean_is_that_of_its_replicates():
    found = scores.mean_interval(torch.tensor([0.0, 1.0] * 50), times=400, confidence=0.9, seed=0)
    assert found["value"] == 0.5
    assert found["low"] == pytest.approx(0.5 - 1.645 * 0.05, abs=0.02)
    assert found["high"] == pytest.approx(0.5 + 1.645 * 0.05, abs=0.02)


def made(counts, means, seed=0):
    """Features around ``means`` with one long and one short axis, and class ids."""
    source = torch.Generator().manual_seed(seed)
    ids = torch.tensor([at for at, count in enumerate(counts) for _ in range(count)])
    return torch.randn(len(ids), 2, generator=source) * torch.tensor([3.0, 0.3]) + torch.tensor(means)[ids], ids


def test_the_classifier_is_the_discriminant_of_the_textbook():
    """Classes 1 apart along the short axis, 3 along the long one, where the nearest mean is wrong for one in five."""
    features, ids = made([500, 500], [[0.0, 0.0], [3.0, 1.0]])
    moments = classifier.Moments(2, 2)
    for at in range(0, 1000, 300):
        moments.add(features[at : at + 300], ids[at : at + 300])
    weights, offsets = moments.scorer()
    means = torch.stack([features[ids == each].double().mean(0) for each in (0, 1)])
    centred = features.double() - means[ids]
    within = centred.T @ centred / 998
    mixed = 0.9 * within + 0.1 * within.trace() / 2 * torch.eye(2)
    torch.testing.assert_close(weights, torch.linalg.inv(mixed) @ means.T)
    torch.testing.assert_close(offsets, -0.5 * torch.stack([mean @ torch.linalg.inv(mixed) @ mean for mean in means]))
    others, wanted = made([200, 200], [[0.0, 0.0], [3.0, 1.0]], seed=1)
    right = torch.tensor(classifier.predict((weights, offsets), others)) == wanted
    assert right.float().mean() > 0.85


def test_rare_classes_weigh_as_much_and_empty_ones_are_never_predicted():
    features, ids = made([400, 5, 0], [[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    moments = classifier.Moments(3, 2)
    moments.add(torch.cat([features, torch.full((9, 2), 99.0)]), torch.cat([ids, torch.full((9,), -1)]))
    found = classifier.predict(moments.scorer(), torch.tensor([[0.0, 0.9], [0.0, 0.1], [0.0, 9.0]]))
    assert found == [1, 0, 1]


def test_one_class_needs_no_classifier():
    moments = classifier.Moments(2, 2)
    moments.add(torch.ones(3, 2), torch.tensor([1, 1, -1]))
    assert moments.scorer() is None
    assert classifier.predict(None, torch.ones(2, 2)) == [None, None]
