"""A wrong command line is told in one line, like every other mistake of the user's."""

import sys

import pytest
from checkouts import edit, make, stillroom

from flows.cli import app


def run(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["stillroom", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["sample", "--steps", "0"], "'--steps'"),
        (["sample", "--modle", "x"], "--model"),
        (["sample", "--num"], "'--num' requires"),
        (["promote"], "'version': see `stillroom promote --help`"),
        (["promote", "one"], "one: not a model's name: wanted NAME@ALIAS or NAME@NUMBER"),
        (["promote", "2", "--approve", "--reason", "x"], "--approve takes the gate's reason"),
        (["polish"], "'polish': see `stillroom --help`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_line_and_code_2(capsys, monkeypatch, words, wanted):
    code, out, err = run(capsys, monkeypatch, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert wanted in err


def test_no_command_at_all_is_answered_with_the_help(capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch)
    assert code == 2
    assert "sample" in err


def test_help_is_no_mistake(capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, "sample", "--help")
    assert (code, err) == (0, "")
    assert "--steps" in out


def test_a_dry_run_tells_a_value_that_no_stage_would_take(tmp_path):
    folder = make(tmp_path / "checkout", pictures=3)
    assert stillroom(folder, "run", "--dry-run").returncode == 0
    edit(folder, "train", muon_rate=2)
    done = stillroom(folder, "run", "--dry-run")
    assert (done.returncode, "would run" in done.stdout) == (2, False)
    assert done.stderr.splitlines()[-1].startswith(
        "error: params.yaml: train.muon_rate should be less than or equal to 1"
    )
