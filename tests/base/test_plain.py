"""YAML that is no plain data ends in one line with its place; what is taken, DVC takes too."""

import time

import pytest
from dvc.utils.serialize import load_yaml

from components.base import config
from components.base.errors import UserError
from components.collect.params import CollectParams

DEEP = "[" * 700
LAUGHS = "a: &b0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"k{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("2024-05-01", 'line 2, column 6 is a date for YAML: put it in quotes, "2024-05-01"'),
        ("2024-99-99", 'line 2, column 6 is a date for YAML: put it in quotes, "2024-99-99"'),
        ("2024-01-01 10:00:00", "is a date for YAML: put it in quotes"),
        ("!!set {x, y}", "has the tag tag:yaml.org,2002:set: leave it out; text is put in quotes"),
        ("!!omap [x: 1]", "has the tag tag:yaml.org,2002:omap: leave it out"),
        ("!!binary aGVsbG8=", "has the tag tag:yaml.org,2002:binary: leave it out and put the value in quotes"),
        ("!mine x", "has the tag !mine: leave it out"),
        ("!!int x", "a value is not of the kind that its tag says"),
        ("!!bool x", "a value is not of the kind that its tag says"),
        ("&me [*me]", "line 2, column 6 holds itself by an alias"),
        ("&me {x: *me}", "line 2, column 6 holds itself by an alias"),
        ("9" * 5000, "line 2, column 6 is a number of 5000 characters"),
        ("0x" + "f" * 5000, "line 2, column 6 is a number of 5002 characters"),
        (DEEP, "stand in each other more than 40 deep"),
        ("[" * 60 + "]" * 60, "line 2, column 46 stands more than 40 deep"),
        ('"\\x1b[31mred"', r"line 2, column 6 holds a character that cannot be seen, '\x1b[31mred'"),
        ('"\\ud800"', r"line 2, column 6 holds a character that cannot be seen, '\ud800'"),
        ("x\x1by", "line 2, column 7 holds U+001B, which cannot be seen"),
        ("x\0", "line 2, column 7 holds U+0000, which cannot be seen"),
        ("1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other", "line 3 begins a conflict of a merge"),
        ("x\n\ufeffother: 1", "line 3, column 1 holds U+FEFF, which cannot be seen"),
        ("1\n[x, y]: 1", "line 3, column 1 is a key that is of the kind seq"),
        ("1\n{x: y}: 1", "line 3, column 1 is a key that is of the kind map"),
        ("1\n? &k [*k]\n: 1", "is a key that is of the kind seq"),
        ("1\n2024-05-01: 1", "line 3, column 1 is a key that is a date"),
        ("1\n5: 1", "line 3, column 1 is a key that is of the kind int"),
        (f"1\n{LAUGHS}", "makes the file too large once its aliases"),
        ("1\nkey: " + "x: " * 5000, "is not YAML"),
        (f"1\nsize: 1\nsize: '{'x' * 5000}'", "line 4, column 1 is not YAML: found duplicate key"),
    ],
)  # fmt: skip
def test_what_is_no_plain_data_is_one_line_with_its_place(tmp_path, value, line):
    path = tmp_path / "params.yaml"
    path.write_text(f"x: 1\nkey: {value}\n", "utf-8")
    with pytest.raises(UserError) as caught:
        config.read(path, name="params.yaml")
    message = str(caught.value)
    assert line in message and message.isprintable() and len(message) <= 300


@pytest.mark.parametrize("section", ["clean: {min_side: *b9}", "clean: *b9", "x: 1"])
def test_aliases_that_repeat_each_other_cost_no_time(tmp_path, section):
    path = tmp_path / "params.yaml"
    path.write_text(f"{LAUGHS}{section}\n", "utf-8")
    started = time.process_time()
    with pytest.raises(UserError, match="makes the file too large once its aliases"):
        config.read(path)
    assert time.process_time() - started < 0.5


def test_an_alias_stands_as_deep_as_what_it_repeats(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(f"x: &x {'[' * 30}{']' * 30}\ny: {'[' * 15}*x{']' * 15}\n", "utf-8")
    with pytest.raises(UserError, match="line 1, column 4 stands more than 40 deep"):
        config.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffkey: 1\n", "key: 1\r\nother: 2\r\n", "key: 1e-4\n", "key: 032\n", "key: 0x1f\n", "key: 1_000\n",
        "key: yes\n", "key: 0:32\n", "key: ~\n", 'key: "2024-05-01"\n', "key: {}\nother: []\n", "key: .inf\n",
        "base: &b {x: 1}\nkey: {<<: *b, y: 2}\n", "one: &one [1]\ntwo: [*one, *one]\n", "key: |\n  a\n  b\n",
        "key: caf\u00e9 \U0001f600\n", "key: !!str 5\n",
    ],
)  # fmt: skip
def test_what_is_taken_is_what_dvc_reads(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode())
    assert config.read(path) == load_yaml(path)


def test_what_dvc_reads_in_another_way_is_not_taken(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("%YAML 1.1\n---\nkey: yes\n")  # the parser in C, which DVC takes, does not know the first line
    assert load_yaml(path) == {"key": "yes"}
    with pytest.raises(UserError, match="DVC reads other values in it: leave out lines that start with %"):
        config.read(path)


@pytest.mark.parametrize(
    "changed", [{"kind": "k" * 100_000}, {"m" * 100_000: 1}, {"name": "n" * 100_000}, {"matte": ["x" * 100_000]}]
)
def test_a_long_value_does_not_make_a_long_message(changed):
    source = {"name": "a", "kind": "files", "location": "x", "licence": "CC0", "matte": "#ffffff", "text_column": None,
              "label_column": None, "group_column": None} | changed  # fmt: skip
    with pytest.raises(UserError) as caught:
        config.section(
            {"collect": {"max_bytes": 2**20, "notes": "keep", "opt_outs": "refuse", "sources": [source]}},
            "collect",
            CollectParams,
        )
    assert "params.yaml: collect.sources[0]" in str(caught.value) and len(str(caught.value)) <= 300


def test_a_folder_in_place_of_the_file_says_so(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        config.read(tmp_path)
