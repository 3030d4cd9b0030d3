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


HALF = """
    import os, sys, time
    from pathlib import Path
    from components.base import files
    with getattr(files, sys.argv[1])(Path(sys.argv[2])) as beside:
        (beside / "half" if "folder" in sys.argv[1] else beside).write_text("half")
        print(flush=True)
        time.sleep(60)
"""


def half_written(how, target):
    """A process that is in the middle of writing ``target``."""
    script = [sys.executable, "-c", textwrap.dedent(HALF), how, str(target)]
    writer = subprocess.Popen(script, stdout=subprocess.PIPE)
    writer.stdout.read(1)
    return writer


def write(how, target):
    with getattr(files, how)(target) as beside:
        (beside / "whole" if "folder" in how else beside).write_text("whole")


@pytest.mark.parametrize("how", ["replacing", "replacing_folder"])
def test_what_a_killed_run_left_is_swept_by_the_next_and_what_another_writes_is_not(tmp_path, how):
    target = tmp_path / "pixels[1]"  # no pattern of names
    with half_written(how, target) as writer:
        assert not target.exists() and len(os.listdir(tmp_path)) == 1
        write(how, target)
        assert len(os.listdir(tmp_path)) == 2, "it is still being written"
        files.sweep(tmp_path)
        assert len(os.listdir(tmp_path)) == 2
        writer.kill()
        writer.wait()
    write(how, target)
    assert os.listdir(tmp_path) == ["pixels[1]"]


def test_what_another_machine_writes_is_left_for_a_day(tmp_path):
    there = tmp_path / f".x{files.BESIDE}00000000-1-00000000"
    there.write_text("half")
    files.sweep(tmp_path)
    assert there.exists()
    os.utime(there, (1, 1))
    files.sweep(tmp_path, "x")
    assert not there.exists()


def test_everything_is_swept_where_nobody_else_may_write(tmp_path):
    with half_written("replacing", tmp_path / "x") as writer:
        files.sweep(tmp_path, whoever=True)
        assert os.listdir(tmp_path) == []
        writer.kill()


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
