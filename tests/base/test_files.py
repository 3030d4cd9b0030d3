"""Files appear whole or not at all; a JSON file that cannot be used is said to be so in one line."""

import os
import subprocess
import sys
import textwrap

import pytest

from components.base import files
from components.base.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "index.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["index.json"]


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path):
    target = tmp_path / "pixels"
    for name in ("first", "second"):
        with files.replacing_folder(target) as beside:
            (beside / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert os.listdir(tmp_path) == ["pixels"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    target = tmp_path / "pixels"
    with files.replacing_folder(target) as beside:
        (beside / "whole").write_text("whole")
    with pytest.raises(KeyboardInterrupt), files.replacing_folder(target) as beside:
        (beside / "half").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert os.listdir(tmp_path) == ["pixels"]


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path):
    script = """
        import os, sys
        from pathlib import Path
        from components.base import files
        with files.replacing_folder(Path(sys.argv[1])) as beside:
            (beside / "half").write_text("half")
            os.kill(os.getpid(), 9)
    """
    target = tmp_path / "pixels"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(target)], check=False)
    assert not target.exists() and len(os.listdir(tmp_path)) == 1
    with files.replacing_folder(target) as beside:
        (beside / "whole").write_text("whole")
    assert os.listdir(tmp_path) == ["pixels"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "notes.json: missing: run it again"),
        ("{", r"notes.json: cannot be read \(.*\): run it again"),
        ("\udcff", r"notes.json: cannot be read \(.*\): run it again"),
        ("[1]", "notes.json: holds list, wanted an object: run it again"),
        ('{"long": "............"}', r"notes.json: cannot be read \(more than 20 bytes\): run it again"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_one_line_with_what_to_do(tmp_path, content, line):
    path = tmp_path / "notes.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=line):
        files.read_json_object(path, "run it again", most=20)
    path.write_text('{"a": null}')
    assert files.read_json_object(path, "run it again", most=20) == {"a": None}
