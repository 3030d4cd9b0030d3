"""The review page: what can be overruled is on it, hostile names are text, and its clicks make a file."""

import itertools
import json
import re

import pytest
import report_fixtures as made
from browser import Browser
from hypothesis import given
from hypothesis import strategies as st

from components.diff import changes
from components.html import finder
from components.html import page as html
from components.review import page, script
from components.review.turn import Turn, cut
from components.samples import decisions

CLICKS = """(() => {
  const said = [], text = () => document.getElementById("said").textContent;
  const press = (section, kind) => document.querySelector(
    `section[aria-labelledby="${section}"] button[data-do="${kind}"]`).click();
  let saved = "";
  window.Blob = class { constructor(parts) { saved = parts.join(""); } };
  URL.createObjectURL = () => "#"; URL.revokeObjectURL = () => {}; HTMLAnchorElement.prototype.click = () => {};
  press("rejected", "keep"); said.push(text());
  document.getElementById("reason").value = " I looked ";
  press("rejected", "label"); said.push(text());
  document.getElementById("label").value = "<b>wolves</b>";
  press("rejected", "label"); press("rejected", "keep"); press("labels", "reject"); press("standing", "label");
  said.push(text());
  [...document.querySelectorAll("output button")].at(-1).click(); said.push(text());
  document.getElementById("save").click(); said.push(text());
  return [said, saved, document.querySelector("section[aria-labelledby=rejected] output").textContent];
})()"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Rows of the hostile fixture, what is decided about two of them, and the page as a file."""
    root = tmp_path_factory.mktemp("review")
    paths = made.data_states(root)
    rows = list(changes.read(raw=paths["raw"], clean=paths["verdicts"], splits=paths["splits"]).values())
    rows.sort(key=lambda row: row["arrival"])
    common = {"undo": False, "reason": made.SCRIPT, "who": made.SCRIPT}
    held = decisions.in_force(decisions.Decision(**common, **each) for each in (
        {"sha256": rows[3]["sha256"], "kind": "reject", "label": None},
        {"sha256": "e" * 64, "kind": "label", "label": made.SCRIPT},
    ))  # fmt: skip
    kept = [row["sha256"] for row in rows if row["verdict"] == "kept"]
    text = page.render(rows, held, raw=paths["raw"], gone=frozenset(), limits=page.Limits(pictures=40),
                       flags={kept[0]: ("blurred", None), kept[1]: ("label", "<b>cat</b>"),
                              "0" * 64: ("dark", None)})  # fmt: skip
    (root / "review.html").write_text(text)
    return rows, text, root / "review.html", paths


def section(text, key):
    return text.split(f'aria-labelledby="{key}">')[1].split("</section>")[0]


def test_what_can_be_overruled_is_on_the_page_and_nothing_else(shown):
    rows, text, _, _ = shown
    rejected = section(text, "rejected")
    for row in rows:
        there = f'data-sha="{row["sha256"]}"' in rejected
        assert there == (row["reason"] in ("duplicate", "near_duplicate")), row["reason"]
    assert rejected.count('data-do="keep"') == rejected.count("data-sha=") == 2
    alike = section(text, "labels") + section(text, "alike")
    assert 'data-do="keep"' not in alike and 'data-do="reject"' in alike
    flagged = section(text, "flagged")
    assert (
        flagged.index("blurred") < flagged.index("fits better: &lt;b&gt;cat&lt;/b&gt;")
        and flagged.count('data-do="reject"') == 2
    )
    standing = section(text, "standing")
    assert standing.count("data-undo") == 2 and 'data-sha="' + "e" * 64 in standing


def test_groups_with_several_labels_stand_apart_and_a_large_one_leaves_room(shown):
    rows = [{**shown[0][1], "sha256": f"{at:064x}", "arrival": at, "group": "one" if at < 50 else "two", "shard": "",
             "label": "cat" if at == 55 else "dog"} for at in range(60)]  # fmt: skip
    text = page.render(rows, {}, raw=shown[3]["raw"], gone=frozenset(), limits=page.Limits(pictures=40))
    assert section(text, "labels").count("data-sha=") == 10 and "cat, dog" in section(text, "labels")
    assert section(text, "alike").count("data-sha=") == 24 and "24 of 50 images shown" in section(text, "alike")


@given(st.lists(st.integers(1, 24)), st.integers(1, 60))
def test_pages_hold_every_entry_once_in_order_and_as_many_as_there_is_room_for(sizes, room):
    pages = cut(sizes, room)
    assert [at for one in pages for at in range(one.start, one.stop)] == list(range(len(sizes)))
    for one, after in itertools.pairwise([*pages, None]):
        taken = sum(sizes[one])
        assert taken <= room or one.stop - one.start == 1
        assert after is None or taken + sizes[after.start] > room


def test_the_server_shows_all_groups_page_by_page_and_a_file_says_how_many_it_has_not(shown):
    rows = [{**shown[0][1], "sha256": f"{at:064x}", "arrival": at, "group": f"{at // 2:03d}", "shard": "",
             "label": None} for at in range(100)]  # fmt: skip

    def seen(**turn):
        text = page.render(rows, {}, raw=shown[3]["raw"], gone=frozenset(), limits=page.Limits(pictures=8),
                           turn=Turn(**turn))  # fmt: skip
        return text, re.findall('data-sha="0*([0-9a-f]+)"', section(text, "alike"))

    text, first = seen()
    assert len(first) == 8 and "4 of 50 groups shown, 46 not shown." in text and 'href="?token' not in text
    every = [number for at in range(1, 14) for number in seen(token="t", list="alike", number=at)[1]]
    assert every == [f"{at:x}" if at else "0" for at in range(100)]
    text, last = seen(token="t", list="alike", number=999)
    assert len(last) == 4 and "Groups 49 to 50 of 50. Page" in text and ">Next</a>" not in text
    assert 'aria-labelledby="rejected"' not in text and ">All lists</a>" in text
    text, _ = seen(token="t")
    assert 'href="?token=t&amp;list=alike&amp;page=2">Next</a>' in text and 'aria-labelledby="rejected"' in text


def test_what_was_withdrawn_is_not_drawn(shown):
    rows, text, _, paths = shown
    gone = frozenset(row["sha256"] for row in rows)
    hidden = page.render(rows, {}, raw=paths["raw"], gone=gone, limits=page.Limits())
    assert "data:image/webp" in text and "data:image/webp" not in hidden


def test_the_policy_allows_the_one_script(shown):
    _, text, _, _ = shown
    assert text.count("<script") == 1 and f"<script>{finder.SCRIPT}{script.SCRIPT}</script>" in text
    assert "script-src &#x27;sha256-" in text and "connect-src" not in text
    served = page.render([], {}, raw=shown[3]["raw"], gone=frozenset(), limits=page.Limits(), turn=Turn(token="secret"))
    assert "connect-src &#x27;self&#x27;" in served and 'data-token="secret"' in served and 'id="save"' not in served
    assert script.SCRIPT not in html.document("t", None, [])


@pytest.mark.parametrize(
    "width", [pytest.param(1280, marks=pytest.mark.slow(4)), pytest.param(400, marks=pytest.mark.slow(4))]
)
def test_clicks_make_a_file_that_is_taken_in(shown, width):
    rows, _, path, _ = shown
    with Browser() as browser:
        seen = browser.open(path, width=width, evaluate=CLICKS)
    assert seen.console == [] and seen.requests == [] and seen.overflow <= 0
    said, saved, output = seen.values["result"]
    assert said == ["first write the reason", "first write the new label", "4 decisions, not saved yet",
                    "3 decisions, not saved yet",
                    "saved as decisions.jsonl: `stillroom data decide decisions.jsonl` takes it in"]  # fmt: skip
    lines = [decisions.parse({**json.loads(line), "who": None}) for line in saved.splitlines()]
    assert [(one.kind, one.label, one.undo, one.reason) for one in lines] == [
        ("label", "<b>wolves</b>", False, "I looked"), ("keep", None, False, "I looked"),
        ("reject", None, False, "I looked"),
    ]  # fmt: skip
    assert lines[0].sha256 == lines[1].sha256 in {row["sha256"] for row in rows if row["verdict"] == "rejected"}
    assert output.startswith("keep") and made.SCRIPT in seen.text
