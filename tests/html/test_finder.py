"""What a reader finds and sorts on a page, in Chromium; names are text and a page is whole without the script."""

import pytest
from browser import Browser

from components.html import page
from components.html.page import Section, el

USE = """(async () => {
  const wait = () => new Promise(go => setTimeout(go, 250)), seen = {};
  const type = async (box, text) => { box.value = text; box.dispatchEvent(new Event("input")); await wait(); };
  const shown = where => [...document.querySelectorAll(where)].filter(e => e.checkVisibility()).length;
  const column = at => [...document.querySelectorAll("tbody tr")].map(row => row.cells[at].textContent);
  const heads = [...document.querySelectorAll("thead th")], press = at => heads[at].querySelector("button").click();
  seen.plain = column(1).slice(0, 3);
  press(1); seen.down = column(1).slice(0, 2).concat(column(1).slice(-2), heads[1].getAttribute("aria-sort"));
  press(1); seen.up = column(1).slice(0, 2).concat(column(1).slice(-2));
  press(1); seen.back = column(1).slice(0, 3).concat(heads[1].getAttribute("aria-sort"));
  press(0); seen.words = column(0).slice(0, 3); press(0); press(0);
  const find = document.getElementById("find"), folds = [...document.querySelectorAll("details")];
  seen.folds = folds.map(fold => fold.open);
  await type(find, "CAFÉ  3fa9");
  seen.found = [shown("li.cell"), shown("tbody tr"), document.querySelector(".find output").textContent,
                folds.map(fold => fold.open && fold.checkVisibility())];
  await type(find, "istanbul cafe");
  seen.accents = shown("li.cell");
  await type(find, "");
  seen.after = [shown("tbody tr"), folds.map(fold => fold.open), document.querySelector(".find output").textContent];
  const filter = document.querySelector(".filter input");
  await type(filter, "row 7");
  seen.filtered = [shown("tbody tr"), document.querySelector(".filter output").textContent,
                   folds.map(fold => fold.open)];
  await type(filter, "");
  seen.all = shown("tbody tr");
  return seen;
})()"""
VALUES = ["1.2 MB", "–", "900 kB", "1,234 bytes"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    cells = [el("li", f"picture {at}", class_="cell", title=f"café/İSTANBUL {at} · {'3fa9' if at == 3 else '77aa'}")
             for at in range(6)]  # fmt: skip
    rows = [[f"row {at}", VALUES[at % 4]] for at in range(24)]
    body = [
        page.table(["Name", "Bytes"], rows, caption="Rows", numbers=[1]),
        page.fold("open", el("ul", cells[:3], class_="strip"), open_=True),
        page.fold("closed", el("ul", cells[3:], class_="strip")),
    ]
    path = tmp_path_factory.mktemp("finder") / "page.html"
    path.write_text(page.document("Rows", None, [Section("rows", "Rows", body)]), "utf-8")
    with Browser() as browser:
        return browser.open(path, evaluate=USE)


def test_the_policy_lets_it_run_and_it_asks_for_nothing(shown):
    assert not shown.console and not shown.requests


def test_a_column_of_numbers_is_sorted_by_amount_and_what_is_missing_stays_last(shown):
    seen = shown.values["result"]
    assert seen["down"] == ["1.2 MB", "1.2 MB", "–", "–", "descending"]
    assert seen["up"] == ["1,234 bytes", "1,234 bytes", "–", "–"]
    assert seen["back"] == [*seen["plain"], None]


def test_a_column_of_words_is_sorted_with_numbers_in_them_by_amount(shown):
    assert shown.values["result"]["words"] == ["row 0", "row 1", "row 2"]


def test_a_search_shows_what_has_every_word_in_whatever_case_and_unfolds_it(shown):
    seen = shown.values["result"]
    assert seen["folds"] == [True, False]
    assert seen["found"] == [1, 0, "1 found of 30 shown here", [False, True]]
    assert seen["after"] == [24, [True, False], ""]


def test_accents_need_not_be_typed(shown):
    assert shown.values["result"]["accents"] == 6


def test_a_long_table_has_a_box_of_its_own(shown):
    seen = shown.values["result"]
    assert seen["filtered"] == [2, "2 of 24", [True, False]] and seen["all"] == 24


def test_without_the_script_the_page_is_whole(shown):
    text = page.document("t", None, [Section("rows", "Rows", [page.table(["A"], [["1"]] * 30, caption="c")])])
    assert "<button" not in text and 'type="search"' not in text.split("<script>")[0]
