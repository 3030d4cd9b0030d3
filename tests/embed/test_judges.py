"""Judges by weights of the user's: the networks that they are said to be, and never another file's."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from components.base.errors import UserError
from components.embed import dinov2, inception, judges
from components.embed.resizing import as_tensorflow_1

pytestmark = pytest.mark.numeric


def filled(network, seed=0):
    """``network`` with weights of a seed that neither vanish nor explode."""
    source = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("conv.weight"):
            value.copy_(torch.randn(value.shape, generator=source) * (2 / value[0].numel()) ** 0.5)
        elif name.endswith(("running_var", "bn.weight")):
            value.copy_(0.5 + torch.rand(value.shape, generator=source))
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=source) * 0.05)
    return network.eval().requires_grad_(False)


def pictures(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def standard():
    return filled(inception.Inception())


@pytest.mark.parametrize(("size", "side"), [((7, 5), 12), ((9, 11), 4), ((6, 6), 6)])
def test_resizing_is_that_of_tensorflow_1(size, side):
    """By its kernel's own loop: pixel i of the result lies at i * old / new."""
    picture = pictures(1, 2, *size).float()
    wanted = torch.empty(1, 2, side, side)
    for row in range(side):
        for column in range(side):
            y, x = row * size[0] / side, column * size[1] / side
            top, left = int(y), int(x)
            bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
            upper = picture[0, :, top, left] * (1 - x + left) + picture[0, :, top, right] * (x - left)
            lower = picture[0, :, bottom, left] * (1 - x + left) + picture[0, :, bottom, right] * (x - left)
            wanted[0, :, row, column] = upper * (1 - y + top) + lower * (y - top)
    torch.testing.assert_close(as_tensorflow_1(picture, side), wanted, rtol=0, atol=1e-4)


def test_inception_is_torchvision_s_with_the_pools_of_fid(standard, monkeypatch):
    """Averages leave the padding out, and the last of the nine is a maximum (see pytorch-fid's inception.py)."""
    from torchvision.models import inception as theirs

    pools = []

    def pooled(x, kernel_size, stride, padding):
        pools.append(len(pools))
        if len(pools) == 9:
            return functional.max_pool2d(x, kernel_size, stride, padding)
        return functional.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False)

    same = ("relu", "max_pool2d")
    names = SimpleNamespace(avg_pool2d=pooled, **{name: getattr(functional, name) for name in same})
    monkeypatch.setattr(theirs, "F", names)
    other = theirs.inception_v3(num_classes=1008, aux_logits=False, init_weights=False, transform_input=False).eval()
    other.fc, other.dropout = torch.nn.Identity(), torch.nn.Identity()
    other.load_state_dict(standard.state_dict())
    picture = pictures(1, 3, 299, 299)
    with torch.no_grad():
        wanted = other((picture.float() - 128) / 128)
    assert len(pools) == 9 and wanted.std() > 0.1
    torch.testing.assert_close(standard(picture), wanted, rtol=1e-4, atol=1e-4)


def test_inception_is_torch_fidelity_s(standard, tmp_path):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    weights = {**standard.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(weights, tmp_path / "weights.pth")
    theirs = fidelity.FeatureExtractorInceptionV3("x", ["2048"], str(tmp_path / "weights.pth"))
    for shape in ((2, 3, 32, 32), (1, 3, 300, 400)):
        assert torch.equal(standard(pictures(*shape)), theirs(pictures(*shape))[0])


@pytest.mark.parametrize(
    "side", [pytest.param(224, marks=pytest.mark.slow(7)), pytest.param(518, marks=pytest.mark.slow)]
)
def test_dinov2_is_transformers_of_the_same_weights(side, monkeypatch):
    from transformers import Dinov2Config, Dinov2Model

    ours = filled(dinov2.DinoV2(128, 2, (side // 14) ** 2))
    config = Dinov2Config(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=side, patch_size=14)
    theirs = Dinov2Model(config).eval()
    missing = theirs.load_state_dict(renamed(ours.state_dict()), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["embeddings.mask_token"], [])
    if side != 224:  # it stretches places a little otherwise: give both ours
        monkeypatch.setattr(theirs.embeddings, "interpolate_pos_encoding", lambda *_: ours._places())
        assert ours._places().shape == (1, 1 + 16**2, 128)
    picture = pictures(2, 3, 40, 30)
    scaled = as_tensorflow_1(picture.float(), 224) / 255
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (dinov2._MEAN, dinov2._DEVIATION))
    with torch.no_grad():
        wanted = theirs(pixel_values=(scaled - mean) / deviation).pooler_output
    torch.testing.assert_close(ours(picture), wanted, rtol=1e-4, atol=1e-4)


def renamed(weights):
    """The weights by transformers' names."""
    words = (("cls_token", "embeddings.cls_token"), ("pos_embed", "embeddings.position_embeddings"),
             ("patch_embed.proj", "embeddings.patch_embeddings.projection"), ("blocks.", "encoder.layer."),
             ("attn.proj", "attention.o_proj"), ("ls1.gamma", "layer_scale1.lambda1"),
             ("ls2.gamma", "layer_scale2.lambda1"))  # fmt: skip
    found = {}
    for name, value in weights.items():
        for ours, theirs in words:
            name = name.replace(ours, theirs)
        name = f"layernorm.{name[5:]}" if name.startswith("norm.") else name
        if "attn.qkv" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.{part}_proj")] = rows
        else:
            found[name] = value
    return found


def judge(path, network="inception"):
    return judges.Judge(network, str(path), hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.slow(4)
def test_weights_are_read_from_both_kinds_of_file_and_without_the_classifier(standard, tmp_path):
    weights = {**standard.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    save_file(weights, tmp_path / "weights.safetensors")
    torch.save(weights, tmp_path / "weights.pth")
    grey = pictures(1, 24, 20, 1)
    for name in ("weights.safetensors", "weights.pth"):
        asked = judge(tmp_path / name)
        judges.check(asked)
        assert asked.frechet == "fd", "these are not the weights of FID"
        found = judges.of(judges.network(asked), grey)
        assert torch.equal(found, standard(grey.permute(0, 3, 1, 2).expand(-1, 3, -1, -1)))


def test_only_the_weights_of_fid_make_a_fid():
    assert judges.Judge("inception", "x", judges.OF_FID + "0" * 56).frechet == "fid"
    assert judges.Judge("dinov2", "x", judges.OF_FID + "0" * 56).frechet == "fd"


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="no such file: it is named as the weights of inception"):
        judges.check(judges.Judge("inception", str(path), "0" * 64))
    save_file({"pos_embed": torch.zeros(1, 5, 64)}, path)
    with pytest.raises(UserError, match=r"its SHA-256 is [0-9a-f]{64}, not 0000"):
        judges.check(judges.Judge("inception", str(path), "0" * 64))
    for network in ("inception", "dinov2"):
        with pytest.raises(UserError, match=f"not the weights of {network}"):
            judges.network(judge(path, network))
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02cos\nsystem\n")
    with pytest.raises(UserError, match="not the weights of inception"):
        judges.network(judge(tmp_path / "weights.pth"))


def test_parameters_name_each_network_once():
    from components.evaluate.params import EvaluateParams

    one = {"network": "dinov2", "weights": "w.pth", "sha256": "0" * 64}
    values = {"seed": 0, "samples": 4, "replicates": 10, "confidence": 0.9, "memorised_rmse": 0.0,
              "memorised_ratio": 0.0, "sweep": []}  # fmt: skip
    assert EvaluateParams.model_validate_json(json.dumps({**values, "judges": [one]})).judges[0].network == "dinov2"
    with pytest.raises(ValueError, match="judges name one network twice"):
        EvaluateParams.model_validate_json(json.dumps({**values, "judges": [one, one]}))
