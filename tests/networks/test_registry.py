"""The registry says of each network how it is built, read and fed."""

import pytest
import torch
from train_fixtures import COMPACT, DIT, UNET, tiny

from components.networks import registry


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
