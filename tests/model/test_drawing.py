"""`stillroom sample`: what it writes says where it came from; what it is asked is checked before anything is drawn."""

import json
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image
from train_fixtures import make_pack, tiny
from typer.testing import CliRunner

import flows.cli.model
from components.base import files
from components.base.errors import UserError
from components.diffusion import names, samplers
from components.model import sampling
from components.networks import registry
from components.train.stage import train
from flows.cli import app
from flows.model import sample

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    pixels, splits = make_pack(folder)
    train(tiny(images=16), pixels=pixels, splits=splits, model=folder / "model", scratch=folder / "scratch")
    return folder / "model"


def request(source, **changes):
    wanted = {"model": str(source), "num": 3, "labels": (), "seed": 5, "sampler": None, "steps": None, "guidance": None,
              "autoguidance": None, "spacing": None, "eta": None, "engine": "auto", "scale": 2}  # fmt: skip
    return sample.Request(**wanted | changes)


def draw(source, folder, *, film=False, each=False, dry_run=False, **changes):
    outputs = sample.Outputs(
        sheet=folder / "sheet.png", film=folder / "film.png" if film else None, each=folder / "each" if each else None
    )
    sample.sample(None, request(source, **changes), outputs, dry_run=dry_run)


def metadata(path):
    with Image.open(path) as image:
        image.load()
        kind = (
            "compositeWithTrainedAlgorithmicMedia" if "init" in image.text["Stillroom"] else "trainedAlgorithmicMedia"
        )
        assert f"/digitalsourcetype/{kind}" in image.text["XML:com.adobe.xmp"]
        return json.loads(image.text["Stillroom"])


def test_the_sheet_tells_where_it_came_from_but_no_path_and_no_time(model, tmp_path):
    draw(model, tmp_path, labels=("right", "left"), sampler="heun", steps=3, guidance=1.5)
    found = metadata(tmp_path / "sheet.png")
    assert found == {
        "model": None, "weights": files.sha256(model / "unet" / registry.WEIGHTS), "seed": 5, "sampler": "heun",
        "steps": 3,
        "levels": "the model's", "eta": None, "guidance": 1.5, "autoguidance": 1.0, "engine": "torch",
        "labels": ["right", "left", "right"],
    }  # fmt: skip
    assert str(tmp_path).encode() not in (tmp_path / "sheet.png").read_bytes()


def test_the_same_wish_gives_the_same_bytes(model, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        draw(model, tmp_path / name, film=True, each=True, sampler="ddpm")
    one, two = ({p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.png")}
                for name in ("one", "two"))  # fmt: skip
    assert one == two
    assert len(one) == 5


def test_every_picture_by_itself_is_the_one_on_the_sheet(model, tmp_path):
    draw(model, tmp_path, each=True, scale=1)
    names = sorted(path.name for path in (tmp_path / "each").iterdir())
    assert names == ["seed5-00000.png", "seed5-00001.png", "seed5-00002.png"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        for at, name in enumerate(names):
            with Image.open(tmp_path / "each" / name) as picture:
                assert picture.size == (8, 8)
                assert sheet.crop((2 + 10 * at, 2, 10 + 10 * at, 10)).tobytes() == picture.tobytes()
    found = metadata(tmp_path / "each" / names[2])
    assert (found["number"], found["label"]) == (2, "both")


def test_the_film_is_a_row_a_picture_and_ends_in_the_sheet(model, tmp_path):
    draw(model, tmp_path, film=True, scale=1)
    assert len(metadata(tmp_path / "film.png")["sigmas"]) == 4
    with Image.open(tmp_path / "film.png") as film, Image.open(tmp_path / "sheet.png") as sheet:
        assert film.size == (4 * 10 + 2, 3 * 10 + 2)
        for at in range(3):
            last, drawn = film.crop((32, 2 + 10 * at, 40, 10 + 10 * at)), sheet.crop((2 + 10 * at, 2, 10 + 10 * at, 10))
            assert max(abs(a - b) for a, b in zip(last.tobytes(), drawn.tobytes(), strict=True)) <= 1


def test_a_dry_run_says_what_and_writes_nothing(model, tmp_path, capsys):
    draw(model, tmp_path, each=True, film=True, sampler="heun", steps=5, dry_run=True)
    out = capsys.readouterr().out
    assert "would draw 3 pictures of 8 x 8 pixels, in turn left, then right, then both" in out
    assert "heun, 5 steps from sigma 80 to 0.02" in out
    assert "9 calls" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"labels": ("lefft",)}, "did you mean 'left'"),
        ({"sampler": "heun", "eta": 0.5}, "eta 0.5: sampler heun has none; ddpm, ddim, euler_ancestral do"),
        ({"engine": "onnx"}, "this model has no ONNX form, take --engine torch or auto"),
        ({"model": "no-such-folder"}, "no such folder"),
    ],
)
def test_a_wrong_wish_is_one_line_and_nothing_is_written(model, tmp_path, changes, line):
    with pytest.raises(UserError, match=re.escape(line)) as caught:
        draw(model, tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_output_in_no_folder(model, tmp_path):
    with pytest.raises(UserError, match="no such folder: make it"):
        draw(model, tmp_path / "none")


# --- what the model says ---------------------------------------------------------------------------------------


@pytest.fixture
def noted(model, tmp_path):
    """A copy of the model with other notes."""

    def make(**changes):
        folder = Path(shutil.copytree(model, tmp_path / "copy"))
        path = folder / "stillroom.json"
        notes = {key: value for key, value in (json.loads(path.read_text()) | changes).items() if value != "gone"}
        path.write_text(json.dumps(notes))
        return folder

    return make


def test_the_model_names_its_sampler_and_an_older_one_has_dpmpp_2m(model, noted):
    assert sampling.load(model).sampler == "dpmpp_2m"
    assert sampling.load(noted(sampler="gone")).sampler == "dpmpp_2m"


def test_the_models_own_sampler_is_used(model, noted):
    other = sampling.load(noted(sampler="heun"))
    assert (sampling.sample(other, [0], seed=0) != sampling.sample(model, [0], seed=0)).any()


@pytest.mark.parametrize(
    "changes",
    [{"sampler": "hein"}, {"sampler": ["heun"]}, {"steps": 0}, {"steps": 10**9}, {"guidance": float("nan")},
     {"sigmas": [1.0, 2.0], "steps": 2}, {"sigmas": [1.0], "steps": 2}, {"sigmas": [2.0, 0.0], "steps": 2},
     {"sigmas": ["x"], "steps": 1}, {"sigmas": [float("inf")], "steps": 1}, {"sigmas": 3}],
)  # fmt: skip
def test_notes_that_make_no_sense(noted, changes):
    with pytest.raises(UserError, match="copy: not a whole denoiser"):
        sampling.load(noted(**changes))


def test_a_student_has_levels_of_its_own(noted):
    student = sampling.load(noted(sigmas=[80, 5, 0.5], steps=3))
    assert sampling.plan(student).sigmas == (80, 5, 0.5)
    assert len(sampling.plan(student, spacing="karras", steps=7).sigmas) == 7
    with pytest.raises(UserError, match="steps 4: this model was distilled to draw in 3"):
        sampling.plan(student, steps=4)


# --- the command -----------------------------------------------------------------------------------------------


def test_the_command_offers_the_samplers_and_levels_that_there_are():
    assert get_args(flows.cli.model.SamplerName) == get_args(names.Sampler) == tuple(samplers.SAMPLERS)
    for name in samplers.SPACINGS:
        assert name in str(get_args(flows.cli.model.Levels))


def test_help_tells_defaults_and_ranges():
    out = CliRunner().invoke(app.app, ["sample", "--help"], terminal_width=200).output
    for words in ("1<=x<=1000", "the model's", "every class in turn", "dpmpp_2m", "auto|torch|onnx", "--dry-run"):
        assert words in out, words


def test_a_sampler_that_is_none_is_told_with_its_choices():
    done = CliRunner().invoke(app.app, ["sample", "--sampler", "plms"])
    assert done.exit_code == 2
    assert "dpmpp_2m" in done.output
