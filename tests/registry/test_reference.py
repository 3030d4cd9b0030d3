"""What names a version of a registered model: one parser for all who read it."""

import pytest

from flows.registry import reference


@pytest.mark.parametrize("before", ["", "models:/"])
@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("denoiser@champion", ("denoiser", "@champion")),
        ("denoiser@3", ("denoiser", "/3")),
        ("denoiser/3", ("denoiser", "/3")),
        ("my denoiser@v 3", ("my denoiser", "@v 3")),
    ],
)
def test_a_version_is_named_by_alias_or_number(before, word, wanted):
    assert reference.parse(before + word) == wanted


@pytest.mark.parametrize("word", ["", "denoiser", "denoiser/", "denoiser@", "@champion", "denoiser/champion", "a/b@c",
                                  "a@b@c", "a/3/4", "model:/a@b", "models:a@b", "denoiser/-3"])  # fmt: skip
def test_what_names_none_is_none(word):
    assert reference.parse(word) is None
