"""`stillroom sample --prompt`: what is said is drawn and put on record; what cannot be said is one line."""

import json

import pytest
from PIL import Image
from text_fixtures import told_pack
from train_fixtures import COMPACT, run, tiny
from typer.testing import CliRunner

from components.base.errors import UserError
from components.train import stage
from flows.cli import app


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompted")
    params = tiny(network=COMPACT, onnx=True, conditions=["text"], images=16)
    stage.train(params, **told_pack(folder), model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


@pytest.fixture(scope="module")
def labelled(packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    run(folder, tiny(network=COMPACT, onnx=True, images=16), packs)
    return folder / "model"


def ask(tmp_path, model, *options):
    done = CliRunner().invoke(
        app.app, ["sample", "--model", str(model), "--out", str(tmp_path / "sheet.png"), "--num", "2", *options]
    )  # fmt: skip
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output, json.loads(Image.open(tmp_path / "sheet.png").text["Stillroom"])


def test_each_prompt_is_drawn_in_turn_and_stands_in_the_file(model, tmp_path):
    (tmp_path / "more.txt").write_text("a blue fish\n\n")
    out, record = ask(tmp_path, model, "--prompt", "dark left side", "--prompt-file", str(tmp_path / "more.txt"),
                      "--negative", "a stone", "--each", str(tmp_path / "each"))  # fmt: skip
    assert "in turn 'dark left side', then 'a blue fish'" in out
    assert record["prompts"] == ["dark left side", "a blue fish"] and record["negative"] == "a stone"
    second = sorted((tmp_path / "each").glob("*.png"))[1]
    assert json.loads(Image.open(second).text["Stillroom"])["prompt"] == "a blue fish"


def test_nothing_said_is_drawn_as_before_and_a_plan_names_the_prompt(model, tmp_path):
    _, record = ask(tmp_path, model)
    assert "prompts" not in record and "negative" not in record
    done = CliRunner().invoke(app.app, ["sample", "--model", str(model), "--prompt", "a fish", "--dry-run"])
    assert "in turn 'a fish'" in done.output


@pytest.mark.parametrize(("options", "said"), [
    (["--prompt", "a " * 40], "more than the 12 tokens that the encoder of this model takes"),
    (["--prompt", "a", "--negative", "b", "--guidance", "1"], "--negative: guidance 1 leads nowhere"),
    (["--negative", "b"], "--negative: nothing is said that it could be led away towards"),
    (["--prompt-file", "nowhere.txt"], "nowhere.txt: cannot be read (No such file or directory)"),
    (["--label", "left", "--prompt", "a"], "label 'left': this model was trained without labels"),
])  # fmt: skip
def test_what_cannot_be_said_is_one_line(model, tmp_path, options, said):
    with pytest.raises(UserError) as raised:
        ask(tmp_path, model, *options)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_model_of_labels_takes_no_prompt(labelled, tmp_path):
    with pytest.raises(
        UserError, match="this model takes no captions, so it cannot be told what to draw: name a label"
    ):
        ask(tmp_path, labelled, "--prompt", "a fish")


@pytest.mark.parametrize(("content", "said"), [(b"\n \n", "holds no prompt"), (b"\xff", "not UTF-8 text")])
def test_a_file_without_prompts_is_one_line(model, tmp_path, content, said):
    (tmp_path / "prompts.txt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        ask(tmp_path, model, "--prompt-file", str(tmp_path / "prompts.txt"))
