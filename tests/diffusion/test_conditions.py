"""What a network gets beside the noise level, by name."""

import torch

from components.diffusion import conditions


def test_an_unlabelled_image_gets_the_null_class_and_a_network_without_labels_nothing():
    ids = torch.tensor([2, -1, 0])
    assert conditions.of_classes(ids, 3)["label"].tolist() == [2, 3, 0]
    assert conditions.of_classes(ids, None) == {}


def test_conditions_of_several_names_are_cut_and_joined_together():
    both = {"label": torch.tensor([0, 1, 2]), "text": torch.arange(12.0).view(3, 2, 2)}
    parts = [conditions.rows(both, slice(0, 1)), conditions.rows(both, torch.tensor([1, 2]))]
    assert all(torch.equal(value, both[name]) for name, value in conditions.joined(parts).items())


def test_without_label_and_caption_nothing_is_said():
    both = {"label": torch.tensor([0, 3]), "text": torch.ones(2, 4)}
    free = conditions.without(both, 3)
    assert free["label"].tolist() == [3, 3]
    assert not free["text"].any()
    assert conditions.says_something(both, 3)
    assert not conditions.says_something(free, 3)
    assert conditions.without({}, None) == {}
