"""Distances between sets: exact where the answer is known, intervals that hold what they should."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.evaluate import scores


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(distance, n, m):
    return float(distance(torch.ones(1, n, dtype=torch.float64), torch.ones(1, m, dtype=torch.float64)))


def slow_kid(a, b):
    """The unbiased estimate, pair by pair."""

    def k(x, y):
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


def test_kid_is_the_unbiased_estimate():
    a, b = normal(0, 7, 5), normal(1, 9, 5) + 0.5
    assert value(scores.kid(a, b), 7, 9) == pytest.approx(slow_kid(a, b), rel=1e-9)


def test_kid_of_two_draws_from_one_distribution_is_about_zero_and_of_shifted_ones_is_not():
    same = [value(scores.kid(normal(2 * i, 100, 16), normal(2 * i + 1, 100, 16)), 100, 100) for i in range(20)]
    shifted = value(scores.kid(normal(0, 100, 16), normal(1, 100, 16) + 1), 100, 100)
    assert abs(sum(same) / 20) < 0.02
    assert min(same) < 0 < max(same), "unbiased: it falls on both sides of zero"
    assert shifted > 10 * max(map(abs, same))


def test_a_replicate_is_the_distance_of_the_pictures_it_drew():
    """Counting a picture twice is having it twice, but for the pair of it with itself."""
    a, b = normal(0, 6, 4), normal(1, 5, 4)
    w = torch.tensor([[2.0, 0, 1, 1, 1, 1]], dtype=torch.float64)
    ones = torch.ones(1, 5, dtype=torch.float64)
    frechet = float(scores.frechet(a, b)(w, ones))
    assert frechet == pytest.approx(value(scores.frechet(a[[0, 0, 2, 3, 4, 5]], b), 6, 5), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (60, 40), (300, 300)])
def test_frechet_is_the_textbook_formula(n, m):
    a, b = normal(0, n, 6) * torch.arange(1, 7), normal(1, m, 6) + 2
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(ca @ cb).real.clamp(min=0).sqrt().sum()
    wanted = (a.mean(0) - b.mean(0)).square().sum() + ca.trace() + cb.trace() - 2 * root
    assert value(scores.frechet(a, b), n, m) == pytest.approx(float(wanted), rel=1e-6)


def test_frechet_of_known_gaussians():
    """Means 3 apart in one direction, standard deviations 1 and 2 in D = 4: 9 + 4 * (2 - 1)**2 = 13."""
    a, b = normal(0, 40000, 4), 2 * normal(1, 40000, 4)
    b[:, 0] += 3
    assert value(scores.frechet(a, b), 40000, 40000) == pytest.approx(13, rel=0.03)


def test_frechet_of_a_set_with_itself_is_zero_in_more_dimensions_than_pictures():
    a = normal(0, 20, 50)
    assert value(scores.frechet(a, a), 20, 20) == pytest.approx(0, abs=1e-4)


@given(n=st.integers(1, 30), seed=st.integers(0, 99))
def test_each_replicate_draws_as_many_as_there_are(n, seed):
    drawn = scores.replicates(n, 5, torch.Generator().manual_seed(seed))
    assert drawn.shape == (5, n)
    assert drawn.sum(1).tolist() == [n] * 5


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for i in range(200):
        errors = normal(i, 80, 1).exp()
        part = scores.mean_intervals(errors, times=300, confidence=0.9, seed=i)[0]
        hits += part["low"] <= 2.718281828**0.5 <= part["high"]
    assert 0.78 <= hits / 200 <= 0.96


def test_intervals_hold_their_value_and_the_last_is_the_geometric_mean():
    errors = normal(0, 50, 3).exp()
    *at_sigmas, geo = scores.mean_intervals(errors, times=200, confidence=0.95, seed=0)
    assert geo["value"] == pytest.approx(float(errors.mean(0).log().mean().exp()))
    for part in (*at_sigmas, geo):
        assert part["low"] < part["value"] < part["high"]


def test_a_score_lies_inside_its_interval():
    a, b = normal(0, 60, 8), normal(1, 60, 8) + 0.3
    for distance in (scores.kid(a, b), scores.frechet(a, b)):
        interval = scores.score(distance, 60, 60, times=100, confidence=0.95, seed=0)
        assert interval["low"] < interval["value"] < interval["high"]
        assert interval == scores.score(distance, 60, 60, times=100, confidence=0.95, seed=0)
