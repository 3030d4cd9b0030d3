"""Escaping, tables, charts and sprite sheets, without a browser."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
import report_fixtures as made
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.html import charts, finder, page
from components.html.sprites import COLUMNS, SHEET, Sprites, blank


class Reader(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


anything = st.text(alphabet=st.characters(), max_size=200)


@given(anything)
def test_any_text_comes_back_as_text_and_never_as_markup(text):
    read = Reader(page.el("p", text, title=text))
    assert read.tags == ["p"]
    assert read.text == page.visible(text)
    assert read.attributes == [("title", page.visible(text))]


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=200))
def test_text_that_can_be_seen_is_not_changed(text):
    assert Reader(page.el("p", text)).text == text


@given(anything)
def test_no_control_character_reaches_a_page(text):
    shown = page.escape(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", shown)
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a␀b"),
        ("a\nb", "a␊b"),
        ("evil\u202egnp.exe", "evil⟨U+202E⟩gnp.exe"),
        ("\ud800", "⟨U+D800⟩"),
        ("café 💧 日本", "café 💧 日本"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "⟨U+0301⟩" * 2),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert page.visible(text) == shown


@given(anything, st.integers(1, 50))
def test_a_cut_text_says_how_much_is_missing(text, limit):
    short = page.cut(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        assert short.startswith(text[:limit] + "… (")
        assert f"({len(text) - limit:,} more characters)" in short
        assert len(page.cut(text, limit, tell=False)) == limit


def test_a_missing_text_is_empty():
    assert page.cut(None, 5) == page.cut(float("nan"), 5) == ""


def test_ours_is_kept_and_theirs_is_escaped_at_any_depth():
    made_ = page.el("ul", [page.el("li", "<b>"), [None, "&", [page.Safe("<hr>")]]], hidden=True, class_=None)
    assert made_ == "<ul hidden><li>&lt;b&gt;</li>&amp;<hr></ul>"


def test_the_document_forbids_everything_but_itself():
    text = page.document(made.SCRIPT, "lede", [page.Section("one", made.BREAKOUT, ["body"])])
    assert "default-src &#x27;none&#x27;; img-src data:; style-src &#x27;unsafe-inline&#x27;" in text
    read = Reader(text)
    assert read.tags.count("script") == 1 and f"<script>{finder.SCRIPT}</script>" in text
    assert not {"img", "iframe", "object", "form", "base"} & set(read.tags)
    for name, value in read.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "src") or value.startswith(("#", "data:,"))
    assert "url(" not in text.replace("url(data:", "")


def test_tables_have_headers_and_say_what_they_leave_out():
    text = page.table(["Name", "Images"], [["a", "1"], ["b", "2"]], caption="Sources", numbers=[1], total=7)
    assert '<th scope="col" class="num">Images</th>' in text
    assert '<th scope="row">a</th>' in text
    assert "2 of 7 rows shown, 5 not shown." in text
    assert "not shown" not in page.table(["Name"], [["a"]], caption="", total=1)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0234567, "0.0235"), (87.654, "87.7"), (1234.5, "1,230"), (3216.0, "3,220"), (0.0, "0"),
     (None, "–"), (float("nan"), "–"), (1.5e-7, "1.50e-07")],
)  # fmt: skip
def test_measured_numbers_keep_three_digits(number, text):
    assert page.figures(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e15, "2,500.0 TB")]
)
def test_bytes_read_well(number, text):
    assert page.size(number) == text


HOSTILE_CHARTS = {
    "bars": lambda name: charts.bars(name, [(name, [1, 2]), ("b", [0, 0])], unit="images", names=(name, "x")),
    "no bars": lambda name: charts.bars(name, [], unit="images"),
    "columns": lambda name: charts.columns(name, [(name, 3)], x_unit=name, y_unit="images"),
    "whiskers": lambda name: charts.whiskers(
        name, [charts.Whisker(name=name, value=1, low=-1, high=2)], unit=name, reference=0.5
    ),
    "lines": lambda name: charts.lines(
        name, [charts.Series(name=name, points=[(1, 2), (3, 4)])], x_unit=name, y_unit=name, log_x=True, log_y=True
    ),
    "no lines": lambda name: charts.lines(name, [], x_unit="x", y_unit="y"),
    "one point": lambda name: charts.lines(name, [charts.Series(name=name, points=[(5, 5)])], x_unit="x", y_unit="y"),
    "not numbers": lambda name: charts.lines(
        name, [charts.Series(name=name, points=[(1, float("nan")), (2, float("inf")), (3, -1), (4, 1)])],
        x_unit="x", y_unit="y", log_y=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("chart", HOSTILE_CHARTS)
@pytest.mark.parametrize("name", made.HOSTILE)
def test_charts_are_drawn_from_shapes_and_text_only(chart, name):
    text = HOSTILE_CHARTS[chart](name)
    allowed = {"svg", "text", "title", "rect", "line", "polyline", "circle", "ul", "li"}
    read = Reader(text)
    assert set(read.tags) <= allowed
    assert "nan" not in text.replace(page.visible(name), "")
    numbers = [value for key, value in read.attributes if key in ("x", "y", "x1", "x2", "y1", "y2", "width", "height")]
    assert all(abs(float(value)) < 2000 for value in numbers)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20), st.booleans())
def test_curves_stay_inside_their_chart(values, log):
    points = [(at + 1, value) for at, value in enumerate(values)]
    text = charts.lines("t", [charts.Series(name="s", points=points, marks=True)], x_unit="x", y_unit="y", log_y=log)
    dots = re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', text)
    assert len(dots) == len(values)
    assert all(0 <= float(x) <= charts.WIDTH and 0 <= float(y) <= 256 for x, y in dots)


def test_a_sheet_holds_each_picture_at_the_place_its_cell_shows():
    sheet = Sprites("s", 4, scale=2)
    colours = [(at, 255 - at, 7) for at in range(COLUMNS + 3)]
    for at, colour in enumerate(colours):
        sheet.add(str(at), Image.new("RGB", (4, 4), colour))
        sheet.add(str(at), Image.new("RGB", (4, 4), (0, 0, 0)))
    picture = _sheet(sheet)
    for at, colour in enumerate(colours):
        column, row = re.search(r"--c:(\d+);--r:(\d+)", sheet.cell(str(at), "alt")).groups()
        assert picture.getpixel((int(column) * 4 + 1, int(row) * 4 + 1)) == colour
    assert ".s0{--s:8px;--w:32;--h:2;" in sheet.css()
    assert len(sheet) == len(colours)


def test_a_sheet_of_wide_pictures_has_wide_cells():
    sheet = Sprites("s", 12, 8, scale=2)
    for at in range(COLUMNS + 3):
        sheet.add(str(at), Image.new("RGB", (12, 8), (at, 255 - at, 7)))
    picture = _sheet(sheet)
    assert picture.size == (COLUMNS * 12, 2 * 8)
    assert picture.getpixel((2 * 12 + 11, 8 + 7)) == (COLUMNS + 2, 253 - COLUMNS, 7)
    assert ".s0{--s:24px;--w:32;--h:2;--t:16px;height:var(--t);background-size:" in sheet.css()
    sheet.add("large", Image.new("RGB", (12, 80), "red"))
    assert _sheet(sheet).size == (COLUMNS * 12, 2 * 8)


def _sheet(sprites: Sprites) -> Image.Image:
    data = re.search("base64,([^)]*)", sprites.css()).group(1)
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def test_many_pictures_take_more_sheets():
    sheet = Sprites("s", 1)
    for at in range(SHEET + 1):
        sheet.add(str(at), Image.new("RGB", (1, 1)))
    assert sheet.css().count("base64,") == 2
    assert 'class="px s1"' in sheet.cell(str(SHEET), "")


def test_an_empty_sheet_is_no_rule_at_all():
    assert Sprites("s", 8).css() == ""


def test_large_and_long_pictures_fit_their_cell():
    sheet = Sprites("s", 8)
    sheet.add("wide", Image.new("RGB", (400, 3), "red"))
    assert _sheet(sheet).size == (8, 8)


def test_a_frame_names_the_reason_and_the_picture():
    text = blank(64, "damaged", made.SCRIPT)
    assert ">damaged<" in text and "script&gt;" in text and "<script" not in text
