"""The registry says of each network how it is built, read and fed."""

import pytest
import torch
from train_fixtures import COMPACT, DIT, UNET, tiny

from components.base.errors import UserError
from components.networks import registry
from components.train import throughput


@pytest.mark.parametrize("values", [UNET, COMPACT, DIT], ids=lambda values: values["kind"])
@pytest.mark.parametrize("classes", [0, 3])
def test_each_kind_is_built_read_again_and_fed_with_its_examples(values, classes):
    params = tiny(network=values, onnx=values is COMPACT).network
    built = registry.build(params, schedule_name="cosine", shape=(3, 8, 8), classes=classes)
    assert isinstance(params, registry.NETWORKS[values["kind"]].params)
    twin = registry.read({**built.config, "_class_name": type(built).__name__})
    twin.load_state_dict(built.state_dict())
    given = registry.examples(built, torch.tensor([1.0, 2.0]))
    assert ("class_labels" in given) == bool(classes)
    with torch.no_grad():
        assert torch.equal(built(**given).sample, twin(**given).sample)
        assert built(**given).sample.shape == (2, *registry.sample_shape(built))


@pytest.mark.parametrize("values", [UNET, COMPACT], ids=lambda values: values["kind"])
@pytest.mark.parametrize("shape", [(3, 12, 8), (1, 8, 12)])
def test_examples_and_flops_are_of_the_shape_that_the_network_was_built_for(values, shape):
    built = registry.build(tiny(network=values, onnx=values is COMPACT).network, schedule_name="cosine", shape=shape,
                           classes=3)  # fmt: skip
    assert registry.sample_shape(built) == shape
    given = registry.examples(built, torch.tensor([1.0, 2.0]))
    assert built(**given).sample.shape == given["sample"].shape == (2, *shape)
    turned = registry.sample_shape(built)[0], *shape[:0:-1]
    assert throughput.flops(built, shape, labels=True) == throughput.flops(built, turned, labels=True) > 0


@pytest.mark.parametrize("values", [UNET, COMPACT, DIT], ids=lambda values: values["kind"])
@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 4, 8, 8)])
def test_samples_of_another_rank_are_refused_in_one_line(values, shape):
    with pytest.raises(UserError, match=rf"train\.network\.kind {values['kind']}: takes samples of shape \(C, H, W\)"):
        registry.build(tiny(network=values, onnx=values is COMPACT).network, schedule_name="cosine", shape=shape,
                       classes=0)  # fmt: skip


@pytest.mark.parametrize(("values", "wanted"), [
    (UNET, "class_embedding.weight"), (COMPACT, "label.weight"),
    (DIT, "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"),
], ids=["unet", "compact", "dit"])  # fmt: skip
def test_embeddings_are_the_tables_of_labels(values, wanted):
    params = tiny(network=values, onnx=values is COMPACT).network
    built = registry.build(params, schedule_name="cosine", shape=(3, 8, 8), classes=3)
    assert wanted in registry.embeddings(built)
    assert all(len(built.get_parameter(name)) == 4 for name in registry.embeddings(built))


def test_a_network_of_somebody_else_is_refused():
    with pytest.raises(ValueError, match="'UNet1DModel' is no network that can be sampled here"):
        registry.read({"_class_name": "UNet1DModel"})
