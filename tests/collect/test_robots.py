"""robots.txt as RFC 9309 has it, and X-Robots-Tag."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.collect.web.robots import MOST_BYTES, Rules, forbidding

LONGEST = "User-agent: *\nDisallow: /a\nAllow: /a/b\nDisallow: /a/b/c$\nDisallow: /*.gif$\n"


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/x", True),
        ("User-agent: *\nDisallow: /", "/x", False),
        ("User-agent: *\nDisallow: /", "/robots.txt", True),
        ("User-agent: *\nDisallow:", "/x", True),
        ("User-agent: other\nDisallow: /", "/x", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: Stillroom/2.0\nAllow: /", "/x", True),
        ("User-agent: stillroom\nUser-agent: b\nDisallow: /x # why\nUser-agent: *\nDisallow: /", "/y", True),
        ("user-agent: stillroom\ndisallow: /x\n\nUSER-AGENT: STILLROOM\nDISALLOW: /y", "/y", False),
        ("User-agent: stillroombot\nDisallow: /", "/x", True),
        (LONGEST, "/a/x", False),
        (LONGEST, "/a/b/x", True),
        (LONGEST, "/a/b/c", False),
        (LONGEST, "/a/b/cd", True),
        (LONGEST, "/x/y.gif", False),
        (LONGEST, "/x/y.gif?z", True),
        ("User-agent: *\nDisallow: /x\nAllow: /x", "/x", True),
        ("User-agent: *\nDisallow: /%7Ea/\xe4", "/~a/%C3%A4", False),
        ("User-agent: *\nDisallow: /a%2Fb", "/a/b", True),
        ("User-agent: *\nDisallow: /*?size=", "/a?size=2", False),
        ("Sitemap: x\nDisallow: /", "/x", True),
        ("\ufeffUser-agent:*\r\nDisallow:/x\r\n", "/x", False),
    ],
)
def test_the_rules_of_the_rfc(text, path, allowed):
    assert Rules(text.encode()).allow(path) is allowed


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe\0\1" * 1000, b"User-agent: *\nDisallow: /" + b"*a" * 200_000 + b"$",
     b"User-agent: *\n" + b"Disallow: /x\n" * 30_000,
     b"a" + b" " * 400_000 + b": x", b"User-agent:" + b" " * 400_000 + b"*\nDisallow: /"],
)  # fmt: skip
def test_a_hostile_robots_txt_costs_little(text):
    began = time.process_time()
    Rules(text[:MOST_BYTES]).allow("/" + "a" * 8000)
    assert time.process_time() - began < 1


@settings(deadline=None)
@given(st.text(alphabet="ab*$/", max_size=12), st.text(alphabet="ab/$", max_size=12))
def test_patterns_match_what_their_regular_expressions_match(pattern, path):
    """A "$" at the end is the end, and Protego takes it for the character as well."""
    readings = {(pattern.removesuffix("$"), "$" if pattern.endswith("$") else ""), (pattern, "")}
    wanted = ["/" + ".*".join(re.escape(part) for part in body.split("*")) + end for body, end in readings]
    rules = Rules(f"User-agent: *\nDisallow: /{pattern}".encode())
    assert rules.allow("/" + path) is not any(re.match(each, "/" + path) for each in wanted)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("User-agent: *\nCrawl-delay: 2.5", 2.5), ("User-agent: other\nCrawl-delay: 9", 0),
     ("User-agent: *\nCrawl-delay: 9\nUser-agent: Stillroom/1\nCrawl-delay: 1", 1),
     *((f"User-agent: *\nCrawl-delay: {word}", 0) for word in ("-1", "soon", "nan", "inf", ""))],
)  # fmt: skip
def test_how_long_a_site_wants_to_be_left_alone(text, seconds):
    assert Rules(text.encode()).delay == seconds


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([], ""), (["noindex, nofollow"], ""), (["noai"], "noai"), (["noindex, NoImageAI"], "noimageai"),
        (["otherbot: noai"], ""), (["stillroom: noai"], "noai"), (["*: noai"], "noai"), (["x", "noai"], "noai"),
        (["noaim"], ""), (["unavailable_after: 25 Jun 2030, noai"], "noai"),
    ],
)  # fmt: skip
def test_x_robots_tag(values, word):
    assert forbidding(values) == word
