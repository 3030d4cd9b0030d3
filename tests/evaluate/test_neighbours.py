"""The nearest of many images, looked at in blocks."""

import pytest
import torch

from components.evaluate.neighbours import Nearest, values


@pytest.mark.parametrize("block", [7, 100, 300])
def test_the_nearest_is_found_whatever_the_blocks(block):
    source = torch.Generator().manual_seed(0)
    many, features = torch.rand(300, 12, generator=source), torch.rand(300, 4, generator=source)
    found = Nearest(torch.cat([many[[5, 250, 299]] + 0.01, many[:0]]), 4)
    for first in range(0, 300, block):
        found.see(many[first : first + block], features[first : first + block], first)
    assert found.places.tolist() == [5, 250, 299]
    torch.testing.assert_close(found.rmse, torch.full((3,), 0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.features, features[[5, 250, 299]])
    torch.testing.assert_close(found.similarity(features[[5, 250, 299]]), torch.ones(3))


def test_of_equal_images_the_first_is_named():
    found = Nearest(torch.zeros(1, 3), 1)
    for first in (0, 2):
        found.see(torch.zeros(2, 3), torch.zeros(2, 1), first)
    assert (found.places.tolist(), found.rmse.tolist()) == ([0], [0.0])


def test_large_images_are_compared_by_the_means_of_their_parts():
    images = torch.zeros(1, 128, 256, 3, dtype=torch.uint8)
    images[:, ::2, :, 0] = 255
    found = values(images)
    assert found.shape == (1, 3 * 64 * 64)
    torch.testing.assert_close(found.view(3, -1).mean(1), torch.tensor([0.5, 0.0, 0.0]))
    assert values(images[:, :64, :64]).tolist() == (images[:, :64, :64].flatten(1) / 255).tolist()
