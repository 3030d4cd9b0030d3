"""Augmentation: what it does to pixels, how often, and that it depends on nothing but seed and place."""

import dataclasses
import json
import math

import pytest
import torch
from train_fixtures import AUGMENT, COLOUR, COMPACT, make_pack, tiny

from components.base.errors import UserError
from components.dataset import augment, tensors
from components.dataset.params import AugmentParams
from components.networks import registry
from components.samples import spec as specs
from components.train import loop
from components.train import start as beginning
from components.train.distributed.ranks import Group
from components.train.feed import Feed
from components.train.state import start

ALONE = Group(0, 1, torch.device("cpu"))
EVERYTHING = {"horizontal_flip": 0.5, "vertical_flip": 0.5, "rotate": 30.0, "crop": 0.3,
              "colour": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.5, "hue": 0.1}}  # fmt: skip

COMPACTLY = {"network": COMPACT, "onnx": True}


def params(**changes):
    return AugmentParams.model_validate_json(json.dumps(AUGMENT | changes))


def images(count=6, side=8, channels=3):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1


def done(how, batch, first=0):
    drawn = augment.draw(how, 3, torch.arange(first, first + len(batch)))
    return augment.apply(how, batch, drawn), drawn


@pytest.mark.parametrize("axis", ["horizontal_flip", "vertical_flip"])
def test_a_flip_twice_is_the_image(axis):
    how, batch = params(**{axis: 1.0}), images()
    once, _ = done(how, batch)
    twice, _ = done(how, once)
    assert torch.equal(once, batch.flip(3 if axis == "horizontal_flip" else 2))
    assert torch.equal(twice, batch)


def test_a_share_of_one_half_flips_half():
    count = 4000
    drawn = augment.draw(params(horizontal_flip=0.5, vertical_flip=0.5), 0, torch.arange(count))
    both = (drawn.mirrored * drawn.upturned).sum()
    for found, share in ((drawn.mirrored.sum(), 0.5), (drawn.upturned.sum(), 0.5), (both, 0.25)):
        assert abs(float(found) - share * count) < 4 * math.sqrt(count * share * (1 - share))


def test_no_rotation_and_no_crop_change_no_byte():
    batch = images()
    still, _ = done(params(rotate=20.0, crop=0.5, colour=EVERYTHING["colour"], probability=0.0), batch)
    assert torch.equal(still, batch)
    drawn = augment.draw(params(), 0, torch.arange(6))
    assert torch.equal(augment.apply(params(rotate=20.0, crop=0.5), batch, drawn), batch)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_those_of_the_array(quarters):
    batch, how = images(), params(rotate=180.0)
    none = augment.draw(params(), 0, torch.arange(6))
    turned = augment.apply(how, batch, none._replace(angle=torch.full((6,), quarters * math.pi / 2)))
    torch.testing.assert_close(turned, batch.rot90(quarters, (2, 3)), atol=1e-4, rtol=0)


def test_a_crop_shows_the_part_that_is_left():
    ramp = torch.linspace(-1, 1, 16).expand(2, 3, 16, 16)
    none = augment.draw(params(), 0, torch.arange(2))
    half = torch.full((2,), 0.5)
    left = augment.apply(params(crop=0.5), ramp, none._replace(cut=half, right=-half))
    assert float(left.max()) < 0.1 and float(left.min()) < -0.95


@pytest.mark.parametrize(("fill", "corner"), [("edge", 1.0), ("mean", 0.0)])
def test_outside_is_the_edge_or_the_mean_of_the_border(fill, corner):
    image = torch.full((1, 3, 16, 16), 1.0)
    image[:, :, :, 0] = image[:, :, :, 15] = image[:, :, 0] = image[:, :, 15] = 0.0
    image[:, :, 0, 0] = image[:, :, 0, 15] = image[:, :, 15, 0] = image[:, :, 15, 15] = 1.0
    none = augment.draw(params(), 0, torch.arange(1))
    turned = augment.apply(params(rotate=45.0, fill=fill), image, none._replace(angle=torch.tensor([math.pi / 4])))
    wanted = corner if fill == "edge" else float(augment._border(image)[0, 0])
    got = turned[0, 0, 0, 0] if fill == "mean" else augment.apply(
        params(rotate=180.0), image, none._replace(angle=torch.tensor([math.pi])))[0, 0, 0, 0]  # fmt: skip
    assert float(got) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_everything_at_once_stays_in_range_and_shape(channels):
    batch = images(64, channels=channels)
    changed, _ = done(params(**EVERYTHING), batch)
    assert changed.shape == batch.shape and changed.isfinite().all()
    assert float(changed.min()) >= -1 and float(changed.max()) <= 1
    assert not torch.equal(changed, batch)
    if channels == 4:
        alpha, _ = done(params(colour=EVERYTHING["colour"]), batch)
        assert torch.equal(alpha[:, 3], batch[:, 3])


def test_bytes_are_changed_as_numbers_are():
    pixels = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    how = params(**EVERYTHING)
    changed, drawn = done(how, pixels)
    exact = augment.apply(how, pixels.float() / 127.5 - 1, drawn)
    assert changed.dtype == torch.uint8
    assert float((changed.float() / 127.5 - 1 - exact).abs().max()) <= 1 / 255 + 1e-5
    mirrored, _ = done(params(horizontal_flip=1.0), pixels)
    assert torch.equal(mirrored, pixels.flip(3))


def test_hue_and_saturation_leave_grey_alone_and_a_third_of_a_turn_moves_channels():
    grey = images(channels=1).expand(-1, 3, -1, -1)
    changed, _ = done(params(colour=COLOUR | {"saturation": 1.0, "hue": 0.5}), grey)
    torch.testing.assert_close(changed, grey, atol=1e-5, rtol=0)
    none = augment.draw(params(), 0, torch.arange(6))
    turned = augment.apply(
        params(colour=COLOUR | {"hue": 0.5}), images(), none._replace(hue=torch.full((6,), 2 * math.pi / 3))
    )
    torch.testing.assert_close(turned, images().roll(1, 1), atol=1e-5, rtol=0)


def test_what_an_image_meets_depends_on_seed_and_place_alone():
    how, places = params(**EVERYTHING), torch.arange(64)
    whole = augment.draw(how, 3, places)
    changed = augment.apply(how, images(64), whole)
    for part in (slice(0, 1), slice(5, 18), slice(32, 64)):
        some = augment.draw(how, 3, places[part])
        assert torch.equal(torch.stack(some), torch.stack(whole)[:, part])
        assert torch.equal(augment.apply(how, images(64)[part], some), changed[part])
    other = augment.draw(how, 4, places)
    assert not torch.equal(other.angle, whole.angle)


def test_the_label_is_zero_where_nothing_is_done_and_nowhere_else():
    some = augment.draw(params(**EVERYTHING | {"probability": 0.3}), 0, torch.arange(200))
    batch = images(200)
    changed = augment.apply(params(**EVERYTHING), batch, some)
    same = (changed == batch).flatten(1).all(1)
    assert 0 < int(same.sum()) < 200
    assert torch.equal(same, (some.label() == 0).all(1))
    assert some.label().shape == (200, augment.LABELS)


def test_a_quarter_turn_of_a_wide_image_keeps_its_proportions():
    image = images(side=24)[:, :, 8:16].contiguous()  # 24 x 8: a square of 8 in the middle stays in it
    none = augment.draw(params(), 0, torch.arange(6))
    turned = augment.apply(params(rotate=90.0), image, none._replace(angle=torch.full((6,), math.pi / 2)))
    inner = slice(8, 16)
    torch.testing.assert_close(turned[..., inner], image[..., inner].rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_the_range_of_values_is_that_of_the_spec():
    how, batch = params(**EVERYTHING | {"probability": 0.3, "horizontal_flip": 0.0, "vertical_flip": 0.0}), images(64)
    wanted, drawn = done(how, batch)
    for scale, shift in ((1 / 255, 0.0), (2.0, -40.0)):
        one = dataclasses.replace(specs.image((3, 8, 8)), scale=scale, shift=shift)
        low, high = one.limits
        middle, half = (low + high) / 2, (high - low) / 2
        values = batch * half + middle
        found = augment.apply(how, values, drawn, one)
        torch.testing.assert_close(found, wanted * half + middle, atol=1e-5 * half, rtol=1e-5)
        still = (wanted == batch).flatten(1).all(1)
        assert 0 < int(still.sum()) < 64
        assert torch.equal(found[still], values[still]), "an image that is left alone keeps every bit"


def test_the_sheet_of_another_range_shows_bytes_as_they_are_stored(pixels):
    how, stored = params(**EVERYTHING), pixels.gather([0, 9])
    sheet, _ = augment.sheet(how, 3, stored)
    other, _ = augment.sheet(how, 3, stored, dataclasses.replace(pixels.header.spec, scale=1 / 255, shift=0.0))
    assert float((sheet.float() - other.float()).abs().max()) <= 1


def test_samples_that_are_no_images_are_not_augmented_and_one_line_says_so(pixels):
    pixels.header = dataclasses.replace(
        pixels.header, spec=dataclasses.replace(pixels.header.spec, kind="mel")
    )  # fmt: skip
    Feed(tiny(), pixels, torch.arange(40), ALONE)
    with pytest.raises(UserError, match=r"train\.augment: changes images only, and these samples are of kind mel"):
        Feed(tiny(augment=AUGMENT | {"crop": 0.1}), pixels, torch.arange(40), ALONE)


def test_words_say_what_is_done():
    none = augment.draw(params(), 0, torch.arange(1))
    assert none.words(0) == "as it is"
    drawn = none._replace(mirrored=torch.ones(1), angle=torch.tensor([-0.2]), cut=torch.tensor([0.25]),
                          brightness=torch.tensor([0.2]), hue=torch.tensor([0.1]))  # fmt: skip
    assert drawn.words(0) == "mirrored, turned -11°, cut by 25 %, brightness +10 %, hue +6°"


def test_the_sheet_shows_what_training_will_do(pixels):
    how, rows = params(**EVERYTHING), [0, 9]
    sheet, words = augment.sheet(how, 3, pixels.gather(rows))
    assert sheet.shape == (2, augment.DRAWS, 8, 8, 3) and sheet.dtype == torch.uint8
    batch, drawn = tensors.to_network(pixels.gather([9])), augment.draw(how, 3, torch.tensor([augment.DRAWS]))
    assert torch.equal(sheet[1, 0], tensors.to_pixels(augment.apply(how, batch, drawn))[0])
    assert words[1][0] == drawn.words(0)


@pytest.fixture
def pixels(tmp_path):
    return tensors.Pixels(make_pack(tmp_path)[0])


def test_all_off_feeds_the_bytes_of_the_pack_and_computes_nothing(pixels, monkeypatch):
    monkeypatch.setattr(augment, "draw", None)
    monkeypatch.setattr(augment, "apply", None)
    fed = Feed(tiny(), pixels, torch.arange(40), ALONE)
    batch = fed.batch(8)
    assert torch.equal(batch.image, tensors.to_network(pixels.gather(fed.rows_at(8, 16))))
    assert batch.done is None


@pytest.mark.parametrize("loaders", [0, 2])
def test_ranks_and_loaders_feed_the_same_augmented_images(pixels, loaders):
    how = tiny(augment=AUGMENT | EVERYTHING | {"label": True}, **COMPACTLY, loaders=loaders)
    whole = Feed(tiny(augment=AUGMENT | EVERYTHING | {"label": True}, **COMPACTLY), pixels, torch.arange(40), ALONE)
    parts = [Feed(how, pixels, torch.arange(40), Group(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
    try:
        for place in (0, 8, 40):
            wanted, got = whole.batch(place), [part.batch(place) for part in parts]
            assert torch.equal(wanted.image, torch.cat([batch.image for batch in got]))
            assert torch.equal(wanted.done, torch.cat([batch.done for batch in got]))
            assert not torch.equal(wanted.image, tensors.to_network(pixels.gather(whole.rows_at(place, place + 8))))
    finally:
        for part in parts:
            part.close()


def test_only_the_compact_network_is_told():
    with pytest.raises(ValueError, match=r"augment\.label needs network\.kind compact"):
        tiny(augment=AUGMENT | {"rotate": 5.0, "label": True})
    tiny(augment=AUGMENT | {"label": True})  # nothing to tell: no matter
    assert tiny(augment=AUGMENT | {"rotate": 5.0, "label": True}, **COMPACTLY).augment.labelled


def test_a_network_that_is_told_of_nothing_is_the_one_that_is_not_told():
    how = tiny(**COMPACTLY).network
    torch.manual_seed(0)
    net = registry.build(how, schedule_name="cosine", shape=(3, 8, 8), classes=0, augment_labels=augment.LABELS)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    noisy, t = images(4), torch.full((4,), 300)
    silent = net(noisy, t).sample
    assert torch.equal(net(noisy, t, augment_labels=torch.zeros(4, augment.LABELS)).sample, silent)
    assert not torch.allclose(net(noisy, t, augment_labels=torch.ones(4, augment.LABELS)).sample, silent)
    assert torch.equal(net.eval()(noisy, t).sample, silent)


def test_a_start_that_was_never_told_cannot_be(pixels, monkeypatch):
    plain = registry.build(tiny(**COMPACTLY).network, schedule_name="cosine", shape=(3, 8, 8), classes=3)
    monkeypatch.setattr(beginning, "network", lambda *_: plain)
    with pytest.raises(UserError, match=r"train\.augment\.label true, but the network to start from"):
        start(tiny(augment=AUGMENT | {"rotate": 5.0, "label": True}, **COMPACTLY), pixels, ALONE)


def test_a_training_that_is_told_learns_from_it_and_denoises_without(tmp_path):
    pixels, splits = make_pack(tmp_path)
    how = tiny(augment=AUGMENT | EVERYTHING | {"label": True}, **COMPACTLY, validations=1)
    state = loop.fit(loop.Job(params=how, pixels=pixels, splits=splits, folder=tmp_path / "scratch"), ALONE)
    assert float(state.average.augment.weight.abs().sum()) > 0
    assert next(line["x0_error"] for line in state.history if "x0_error" in line) > 0  # measured without a label
    config = dict(state.average.config) | {"_class_name": "CompactUNet"}
    registry.read(config).load_state_dict(state.average.state_dict())
