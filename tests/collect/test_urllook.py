"""A look at a list of URLs: what it keeps, and what it says when nothing comes."""

import hashlib

import pytest
from data_fixtures import collect_params, png
from websites import site

from components.base.errors import UserError
from components.collect.look import look


def test_a_look_keeps_no_bytes_of_what_was_withdrawn(tmp_path):
    with site() as here:
        urls = [here.say("/a", png(1, 8)), here.say("/b", png(2, 8)), here.say("/the-same-again", png(1, 8))]
        (tmp_path / "list.txt").write_text("\n".join(urls))
        params = collect_params(
            kind="urls", location="list.txt", url_column=None, text_column=None, label_column=None, seconds=5.0,
            attempts=1, private=True, obey=False,
        )  # fmt: skip
        gone = hashlib.sha256(png(1, 8)).hexdigest()
        for _ in range(2):
            found = look(
                params, root=tmp_path, page=tmp_path / "page", cache=None, store=tmp_path / "store", gone=[gone]
            )
        assert (found["sources"][0]["files"], found["sources"][0]["refused"]) == (1, {"withdrawn": 2})
        assert sum(here.asked.values()) == 3, "nor is it asked for again"
    assert not any(png(1, 8) in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_list_that_gives_no_image_is_an_error_that_says_why(tmp_path):
    with site() as here:
        (tmp_path / "list.txt").write_text(here.url("/404") + "\nnot a url")
        params = collect_params(
            kind="urls", location="list.txt", url_column=None, text_column=None, label_column=None, seconds=5.0,
            attempts=1, private=True, obey=False,
        )  # fmt: skip
        with pytest.raises(UserError, match=r"^list.txt: none of its URLs gave an image \(bad_url 1, http_4xx 1\)$"):
            look(params, root=tmp_path, page=tmp_path / "page", cache=None, store=tmp_path / "store")
