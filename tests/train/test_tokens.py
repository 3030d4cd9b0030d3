"""Networks that read the tokens of captions: what they are told, what they begin as, how they go on and are drawn."""

import shutil

import pytest
import torch
from text_fixtures import WIDTH, told_pack
from train_fixtures import COMPACT, by_a_stranger, contents, stop_at_second_checkpoint, tiny

from components.base.errors import UserError
from components.dataset import tensors
from components.dataset.told import Captions
from components.diffusion import conditions
from components.model import notes, prompts, sampling
from components.networks import registry
from components.samples import pack, texts
from components.train import averages, loop, stage
from components.train import start as beginning
from components.train.distributed.ranks import Group
from components.train.feed import Feed
from components.train.optim import muon
from components.train.state import build

TOKENS = 8
READS = {"network": COMPACT, "onnx": True, "conditions": ["text"], "images": 64, "checkpoint_images": 16}
ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return told_pack(tmp_path_factory.mktemp("told"), TOKENS)


def run(folder, params, data):
    return stage.train(params, **data, model=folder / "model", scratch=folder / "scratch")


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder, tiny(**READS, guide=0.5, autoguidance=1.0, ema_snapshots=2), data)
    return folder / "model"


def net(tokens=TOKENS):
    """A compact network whose every weight counts."""
    torch.manual_seed(0)
    return registry.build(
        tiny(network=COMPACT, onnx=True).network, schedule_name="cosine", shape=(3, 8, 8), classes=0,
        text_width=WIDTH, text_tokens=tokens,
    )  # fmt: skip


def awake(made):
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return made.eval().requires_grad_(False)


# --- what a row is told ------------------------------------------------------------------------------------------


def test_a_batch_has_the_tokens_of_the_caption_whose_vector_it_has_and_the_empty_ones_where_it_is_dropped(data):
    params = tiny(**{**READS, "images": 512}, caption_dropout=0.3)
    pixels = loop.told(params, data["pixels"], data["text"])
    rows = torch.tensor(list(pack.read_split(data["splits"], "train")))
    feed, captions = Feed(params, pixels, rows, ALONE), pixels.captions
    nothing = captions.tokens(torch.tensor([-1]))
    assert nothing["mask"].tolist() == [[True, True] + [False] * (TOKENS - 2)] and nothing["tokens"].any()
    dropped = 0
    for place in range(0, 512, 8):
        batch = feed.batch(place).condition
        assert batch["tokens"].dtype == torch.float16 and batch["tokens"].shape == (8, TOKENS, WIDTH)
        for vector, tokens, mask in zip(batch["text"], batch["tokens"], batch["mask"], strict=True):
            number = next((at for at, known in enumerate(captions._pooled) if torch.equal(known.float(), vector)), -1)
            wanted = captions.tokens(torch.tensor([number]))
            assert torch.equal(tokens, wanted["tokens"][0]) and torch.equal(mask, wanted["mask"][0])
            dropped += number < 0
    assert dropped > 0.3 * 512


# --- the network -------------------------------------------------------------------------------------------------


def test_it_tells_two_captions_of_one_vector_apart_and_looks_at_no_padding():
    made, source = awake(net()), torch.Generator().manual_seed(1)
    x, t = torch.randn(1, 3, 8, 8, generator=source).expand(2, -1, -1, -1), torch.tensor([400.0, 400.0])
    text, tokens = torch.ones(2, WIDTH), torch.randn(2, 5, WIDTH, generator=source)
    mask = torch.tensor([[True] * 3 + [False] * 2] * 2)
    one, other = made(x, t, text=text, tokens=tokens, mask=mask).sample
    assert (one - other).abs().max() > 1e-2
    tokens[1, :3] = tokens[0, :3]
    one, other = made(x, t, text=text, tokens=tokens, mask=mask).sample
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_it_begins_as_the_network_without_tokens():
    plain, reads = net(0), net()
    first, second = plain.state_dict(), reads.state_dict()
    assert first and all(torch.equal(first[name], second[name]) for name in first)
    assert all(".reading." in name for name in second.keys() - first.keys()) and len(second) > len(first)
    for made in (plain, reads):
        torch.nn.init.ones_(made.leave.weight)
    given = registry.examples(reads, torch.tensor([300.0, 700.0]))
    alone = {name: value for name, value in given.items() if name not in ("tokens", "mask")}
    assert torch.equal(plain(**alone).sample, reads(**given).sample)
    assert "text_tokens" in reads.config and "text_tokens" not in plain.config


def test_without_its_tokens_it_is_not_called_by_mistake():
    with pytest.raises(ValueError, match="reads the tokens of captions"):
        net()(torch.zeros(1, 3, 8, 8), torch.tensor([1.0]), text=torch.zeros(1, WIDTH))


def test_muon_moves_its_matrices_and_adamw_the_rest(data):
    params = tiny(**READS)
    made = build(params, loop.told(params, data["pixels"], data["text"]))
    moved = {id(weight) for weight in muon.matrices(made)}
    reading = {name: weight for name, weight in made.named_parameters() if ".reading." in name}
    assert reading
    assert all((id(weight) in moved) == (weight.dim() > 1) for weight in reading.values())


def test_tokens_that_no_resolution_reads_are_one_line():
    wide = tiny(network={**COMPACT, "fold": 1}, onnx=True).network
    with pytest.raises(UserError, match=r"^train.network.widths: the tokens of captions are read at 8 pixels and bel"):
        registry.build(wide, schedule_name="cosine", shape=(3, 16, 16), classes=0, text_width=16, text_tokens=8)


@pytest.mark.slow(12)
def test_what_only_the_tokens_say_is_learnt(tmp_path):
    data = told_pack(tmp_path, TOKENS)
    pooled, size = data["text"] / texts.POOLED, (data["text"] / texts.POOLED).stat().st_size // 2
    pooled.write_bytes(torch.ones(size).half().numpy().tobytes())  # every caption has the same vector
    run(tmp_path, tiny(**{**READS, "images": 2400, "checkpoint_images": 2400}, caption_dropout=0.1), data)
    model, pixels = sampling.load(tmp_path / "model"), tensors.Pixels(data["pixels"])
    rows = [row for row in pack.read_split(data["splits"], "test") if pixels.class_ids[row] in (0, 1)]
    ids, images = pixels.class_ids[rows], pixels.batch(rows).clone()
    captions = Captions(data["text"], data["pixels"])
    of_class = [int(captions.numbers([int((pixels.class_ids == kind).nonzero()[0])])[0]) for kind in (0, 1)]
    noisy, sigma = (
        images + 20 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)),
        torch.tensor(20.0),
    )
    right, wrong = (
        (model.objective.denoise(model.network, noisy, sigma.expand(len(rows)), captions.said(numbers)) - images)
        .square().mean() for numbers in (torch.tensor(of_class)[ids], torch.tensor(of_class)[1 - ids])
    )  # fmt: skip
    assert right < 0.5 * wrong, (right, wrong)


# --- what comes out ----------------------------------------------------------------------------------------------


def test_the_folder_has_the_empty_caption_and_a_prompt_is_what_was_trained(whole, data):
    found, captions = sampling.load(whole), Captions(data["text"], data["pixels"])
    assert found.text == captions.encoder and found.text.tokens == TOKENS
    silent, prompt = (prompts.said(whole, found.text, [words]) for words in ("", "dark left side"))
    for name, value in captions.said(torch.tensor([-1])).items():
        assert torch.equal(found.nothing[name], value) and torch.equal(silent[name], value), name
    row = list(pack.read_classes(data["pixels"])).index(0)
    for name, value in captions.said(captions.numbers([row])).items():
        assert torch.equal(prompt[name], value), name
    assert registry.text_tokens(found.network) == registry.text_tokens(found.guide) == TOKENS


def test_a_training_with_tokens_goes_on_bit_for_bit(whole, data, tmp_path, monkeypatch):
    stop_at_second_checkpoint(monkeypatch)
    params = tiny(**READS, guide=0.5, autoguidance=1.0, ema_snapshots=2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, params, data)
    run(tmp_path, params, data)
    assert contents(tmp_path / "model") == contents(whole)


def test_both_engines_draw_the_same_pictures_and_nothing_said_is_the_empty_caption(whole):
    both = [sampling.load(whole, engine=engine) for engine in ("torch", "onnx")]
    said = prompts.said(whole, both[0].text, ["dark right side", "a fish"])
    negative = prompts.said(whole, both[0].text, ["a stone"])
    for wishes in ({"text": said}, {"text": said, "negative": negative}, {}):
        drawn = [sampling.sample(model, [-1, -1], seed=3, precision="fp32", guidance=3.0, **wishes).int()
                 for model in both]  # fmt: skip
        assert (drawn[0] - drawn[1]).abs().max() <= 1
    silent = prompts.said(whole, both[0].text, ["", ""])
    again = sampling.sample(both[0], [-1, -1], seed=3, precision="fp32", guidance=3.0, text=silent).int()
    plain = sampling.sample(both[0], [-1, -1], seed=3, precision="fp32", guidance=3.0).int()
    assert torch.equal(again, plain)


def test_the_onnx_form_takes_any_number_of_tokens(whole):
    import onnxruntime

    session = onnxruntime.InferenceSession(whole / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["sample", "timestep", "text", "tokens", "mask"]
    network = sampling.load(whole).network
    given = registry.examples(network, torch.tensor([1.0, 500.0, 900.0]))
    given |= {"tokens": given["tokens"][:, :3], "mask": given["mask"][:, :3]}
    got = session.run(None, {name: value.numpy() for name, value in given.items()})[0]
    torch.testing.assert_close(torch.from_numpy(got), network(**given).sample, rtol=0, atol=1e-4)


def test_a_model_made_again_of_another_average_has_the_empty_caption(whole, tmp_path):
    averages.remake(whole, 0.05, tmp_path / "ema")
    assert sampling.load(tmp_path / "ema").text.tokens == TOKENS


@pytest.mark.parametrize("harm", [
    lambda folder: (folder / notes.NOTHING).unlink(),
    lambda folder: (folder / notes.NOTHING).write_bytes(bytes(7)),
    lambda folder: (folder / notes.NOTHING).write_bytes(b"\xff" * 2 * TOKENS * WIDTH),
    lambda folder: (folder / "stillroom.json").write_text(
        (folder / "stillroom.json").read_text().replace(f'"tokens": {TOKENS}', '"tokens": 0').replace(
            '"nothing": 2', '"nothing": 0')
    ),
])  # fmt: skip
def test_a_folder_without_a_sound_empty_caption_is_refused(whole, tmp_path, harm):
    folder = shutil.copytree(whole, tmp_path / "model")
    harm(folder)
    with pytest.raises(UserError, match="not a whole denoiser"):
        sampling.load(folder)


def test_other_tokens_make_another_training(data, tmp_path):
    other = told_pack(tmp_path, TOKENS + 2)
    keys = [stage.key(tiny(**READS), data["pixels"], data["splits"], None, each["text"]) for each in (data, other)]
    assert len(set(keys)) == 2


def test_conditions_with_tokens_need_the_empty_caption_and_get_it():
    said = conditions.of_tokens(torch.ones(2, 3, 4), torch.tensor([3, 1]))
    nothing = conditions.of_tokens(torch.zeros(1, 3, 4), torch.tensor([2]))
    free = conditions.without(said, None, nothing)
    assert not free["tokens"].any() and free["mask"].tolist() == [[True, True, False]] * 2
    assert conditions.says_something(said, None, nothing)
    assert not conditions.says_something(free, None, nothing)


def test_the_card_s_lines_draw_with_numpy_and_onnxruntime_alone(whole, tmp_path):
    code = (whole / "README.md").read_text().split("```python\n")[1].split("```")[0].replace("FOLDER", str(whole))
    assert "nothing.f16" in code and "The encoder is\nthe folder `text_encoder`" in (whole / "README.md").read_text()
    done = by_a_stranger(code + "\nprint(images.shape, images.dtype)", tmp_path)
    assert done == ["(4, 3, 8, 8) uint8"]


@pytest.mark.slow(8)
def test_recomputing_and_two_ranks_come_to_the_same_but_for_rounding(data, tmp_path):
    weights = []
    for name, changes in (("plain", {}), ("again", {"recompute": True}), ("two", {"ranks": 2})):
        run(tmp_path / name, tiny(**{**READS, "images": 16}, **changes), data)
        weights.append(sampling.load(tmp_path / name / "model").network.state_dict())
    for other in weights[1:]:
        for name, weight in weights[0].items():
            torch.testing.assert_close(other[name], weight, rtol=1e-3, atol=1e-4, msg=name)


def test_a_start_that_reads_another_number_of_tokens_is_one_line(whole, tmp_path):
    beginning.take("that", whole, tmp_path / "start.json")
    other = told_pack(tmp_path, TOKENS + 2)
    with pytest.raises(
        UserError, match=r"^start that: tokens of a caption: it has 8, wanted 10 \(encode.text.tokens\)"
    ):
        run(tmp_path, tiny(**READS), {**other, "start": tmp_path / "start.json"})
