"""URLs are taken apart strictly, and nothing secret in them is ever shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.collect.web.url import holds_secret, parse

SECRET = "hunter2" + "Zq9" * 5


@pytest.mark.parametrize(
    "text",
    [
        f"https://user:{SECRET}@a.example/x.png",
        f"https://{SECRET}@a.example/x.png",
        f"https://a.example/x.png?token={SECRET}",
        f"https://a.example/x.png?%74oken={SECRET}&b=1",
        f"https://a.example/x.png?a=1;sig={SECRET}",
        f"https://a.example/x.png?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://a.example/x.png?x-goog-credential={SECRET}",
        f"https://a.example/x.png?api_key={SECRET}",
        f"https://a.example/x.png?key={SECRET}",
        f"https://a.example/x.png;jsessionid={SECRET}",
        f"https://a.example/x.png#token={SECRET}",
        f"https://a.example/?url=http%3A%2F%2Fb.example%2F%3Ftoken%3D{SECRET}",
        f"https://a.example/?url=http%253A%252F%252Fb.example%252F%253Ftoken%253D{SECRET}",
        f"https://a.example/?url=http%3A%2F%2Fme%3A{SECRET}%40b.example%2F",
        f"https://a.example/?eyJhbGciOi.{SECRET}",
    ],
)
def test_what_is_secret_is_sent_and_not_shown(text):
    url = parse(text)
    for shown in (url.shown, str(url), repr(url), url.origin, f"{url}"):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/x.png?author=ann&page=2&key=img/1.png&s=300&id=0123456789abcdef0123",
        "https://a.example/a%20b/c.png?w=64",
    ],
)
def test_what_is_not_secret_stays_in_the_name(text):
    assert parse(text).shown == text


@pytest.mark.parametrize(
    ("query", "secret"),
    [
        ("AWSSecretKey=x", True), ("account_key=x", True), ("a=1;%6Bey=x", True), ("passwd=x", True), ("auth=x", True),
        ("url=http%3A%2F%2Fme%3Ax%40b.example%2F", True), ("key=", False), ("versionId=3&author=ann", False),
        ("keys=3", False),
    ],
)  # fmt: skip
def test_what_params_yaml_must_not_hold_is_found_in_a_query(query, secret):
    assert holds_secret(query) is secret


def test_credentials_are_sent_as_a_header_and_only_to_their_origin():
    url = parse("https://user:p%40ss@a.example/x")
    assert url.authorization == "Basic dXNlcjpwQHNz" and "ss" not in url.target
    assert url.join("/y").authorization == url.authorization
    assert url.join("https://b.example/y").authorization is None
    assert url.join("http://a.example/y").authorization is None, "another scheme is another origin"
    assert url.join("https://me:mine@b.example/").authorization is None, "a server hands out no credentials"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (" HTTP://A.Example:80/x#part ", "http://a.example/x"),
        ("https://a.example", "https://a.example/"),
        ("https://bücher.example/ä b.png", "https://xn--bcher-kva.example/%C3%A4%20b.png"),
        ("http://[::1]:81/x", "http://[::1]:81/x"),
        ("http://0x7f.1/x", "http://0x7f.1/x"),
    ],
)
def test_spellings_of_one_address_are_one_key(text, wanted):
    assert parse(text).shown == wanted


@pytest.mark.parametrize(
    "text",
    ["", "x", "ftp://a/x", "file:///etc/passwd", "javascript:alert(1)", "http://", "http:///x", "http://a:99999/",
     "http://a:0/", "http://a:b/", "http://good.example\\@evil.example/", "http://a b/", "http://a\r\nHost: b/",
     "http://[::1%25eth0]/", "http://[zz]/", "http://" + "a" * 300, "http://a/" + "a" * 9000, "http://a/\0",
     "http://-/", "//a/b", "http://ａ．．b/"],
)  # fmt: skip
def test_what_is_no_web_address_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert len(text) < 4 or text not in str(caught.value)


_BEFORE = st.sampled_from(["", "http://", "https://a.example/", "https://a.example/?", "http://a@b:"])


@settings(deadline=None)
@given(st.text(max_size=60), _BEFORE)
def test_any_text_is_an_address_or_a_value_error(text, before):
    try:
        url = parse(before + text)
    except ValueError:
        return
    assert url.shown.isascii() and url.shown.isprintable() and " " not in url.shown
    assert parse(url.shown).shown == url.shown, "a key is a URL, whose key it is"
