"""The presets of `stillroom init`: each is whole, loads, builds its network, and says whether it was measured."""

import re
from pathlib import Path

import pytest

from components.base import config
from components.base.errors import UserError
from components.pipeline import SECTIONS
from flows.dvc import schema
from flows.project import presets

ROOT = Path(__file__).resolve().parents[2]
OWN = [name for name, preset in presets.PRESETS.items() if not preset.samples]

every_preset = pytest.mark.parametrize("name", presets.PRESETS)


def loaded(name):
    return config.load(config.parse(presets.params(name)), schema.models())


def lines(text):
    return [line for line in text.splitlines() if not line.startswith("#")]


@every_preset
def test_a_preset_satisfies_the_models_of_all_stages(name):
    assert tuple(loaded(name)) == SECTIONS


def test_the_demo_is_the_checkouts_own_params_yaml():
    own = (ROOT / "params.yaml").read_text("utf-8")
    assert lines(presets.params("emoji-cpu")) == lines(own)
    assert (ROOT / "flows/project/params.yaml").resolve() == ROOT / "params.yaml", "a link, which cannot drift"


@pytest.mark.parametrize("name", OWN)
def test_a_preset_is_the_demos_file_with_other_values(name):
    """So every parameter that is added to params.yaml is in each of them."""
    own = config.parse((ROOT / "params.yaml").read_text("utf-8"))
    made = config.parse(presets.params(name))
    for section in ("profile", "encode", "describe", "report", "contract", "register"):
        assert made[section] == own[section]
    assert made["distil"] == own["distil"] | {"images": made["train"]["images"] // 11}
    assert made["train"].keys() == own["train"].keys()


def test_there_is_one_for_each_size_and_machine():
    assert set(OWN) == {f"image-{side}-{on}" for side in (32, 64, 128, 256) for on in ("cpu", "gpu", "8gpu")}


@pytest.mark.parametrize("name", OWN)
def test_a_preset_is_what_its_name_says(name):
    side, machine = re.fullmatch(r"image-(\d+)-(.+)", name).groups()
    made, train = loaded(name), loaded(name)["train"]
    assert made["resize"].side == int(side) and made["clean"].min_side <= int(side)
    assert train.ranks == {"cpu": 2, "gpu": 1, "8gpu": 8}[machine]
    assert (train.precision, train.compile, train.sharding, train.micro_batch) == ("auto", "auto", "none", "auto")
    assert train.network.kind == ("unet" if machine != "cpu" and int(side) > 32 else "compact")
    assert train.checkpoint_images <= train.images // 20
    assert train.warmup_images <= train.images // 20
    (source,) = made["collect"].sources
    assert (source.location, source.licence, source.label_column) == ("pictures", "unknown", None)


def test_the_preset_of_text_is_told_what_the_emoji_say():
    made = loaded("emoji-text")
    assert made["encode"].text.encoder == "minilm" and made["train"].conditions == ("text",)
    assert made["collect"].sources[0].text_column == "text" and made["train"].network.kind == "compact"
    assert all(loaded(name)["encode"].text is None for name in presets.PRESETS if name != "emoji-text")


@every_preset
def test_a_preset_says_in_its_file_whether_it_was_measured(name):
    head = re.sub(r"\n# ", " ", presets.params(name).partition("\ncollect:")[0])
    preset = presets.PRESETS[name]
    assert preset.line in head and preset.measured in head
    assert re.match(r"Measured by `.*`|Not measured", preset.measured)
    assert preset.samples or not preset.measured.startswith("Measured"), "no pictures of one's own were trained with"


def test_where_the_pictures_lie_and_under_which_licence_can_be_given():
    text = presets.params("image-32-cpu", location="s3://bucket/cats", licence='CC-BY-4.0: all, "mine" # too')
    (source,) = config.load(config.parse(text), schema.models())["collect"].sources
    assert (source.location, source.licence) == ("s3://bucket/cats", 'CC-BY-4.0: all, "mine" # too')


def test_an_unknown_preset_is_one_line_with_the_nearest_name():
    with pytest.raises(UserError, match=r"--preset image-64: not a preset \(they are emoji-.*did you mean 'image-64"):
        presets.params("image-64")


@pytest.mark.slow(12)
def test_the_network_of_a_preset_can_be_built_for_its_size():
    import torch

    from components.networks import registry

    for name in OWN:
        made = loaded(name)
        side, train = made["resize"].side, made["train"]
        with torch.device("meta"):
            network = registry.build(train.network, schedule_name=train.schedule, shape=(3, side, side), classes=3)
        assert registry.sample_shape(network) == (3, side, side)
