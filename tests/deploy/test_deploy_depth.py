"""Language models without some of their blocks still generate, with a cache as without, and are stored honestly."""

import pytest
import torch
from deploy_models import NAMES, example, fresh, words

import secateur
from secateur import Drop, Plan
from secateur.errors import CheckpointError, SurgeryError

LAYERS = {"llama": "model.layers", "qwen3": "model.layers", "gpt2": "transformer.h", "opt": "model.decoder.layers"}


def deep(name, layers=4):
    count = {"gpt2": "n_layer"}.get(name, "num_hidden_layers")
    model = fresh(name, **{count: layers}).eval()
    return secateur.trace(model, example(name), kinds=("depth",))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("gone", [(0,), (1,), (0, 2), (3,)])
def test_tokens_are_the_same_with_a_cache_as_without(name, gone):
    g = deep(name)
    assert [x.name for x in g.groups] == [f"{LAYERS[name]}.{i}" for i in range(4)]
    pruned = secateur.cut(g, Plan(edits=tuple(Drop(block=f"{LAYERS[name]}.{i}") for i in gone)))
    ids = words(3)
    options = {"max_new_tokens": 7, "do_sample": False}
    cached = pruned.model.generate(input_ids=ids, use_cache=True, **options)
    assert torch.equal(cached, pruned.model.generate(input_ids=ids, use_cache=False, **options))
    left = [
        m for n, m in pruned.model.named_modules() if n.rpartition(".")[0] == LAYERS[name] and len(list(m.children()))
    ]
    numbers = [m.layer_idx for block in left for m in block.modules() if hasattr(m, "layer_idx")]
    assert sorted(set(numbers)) == list(range(4 - len(gone)))


def test_a_plain_save_is_refused(tmp_path):
    pruned = secateur.cut(deep("llama"), Plan(edits=(Drop(block="model.layers.1"),)))
    with pytest.raises(CheckpointError, match="save_pretrained"):
        pruned.model.save_pretrained(tmp_path)


def test_layers_of_several_kinds_are_not_dropped():
    model = fresh("qwen3", num_hidden_layers=4, use_sliding_window=True, sliding_window=4, max_window_layers=2).eval()
    g = secateur.trace(model, example("qwen3"), kinds=("depth",))
    with pytest.raises(SurgeryError, match="layer_types"):
        secateur.cut(g, Plan(edits=(Drop(block="model.layers.0"),)))


def test_parts_of_a_t5_block_are_blocks_where_they_stand_alone():
    assert "t5" in NAMES
    g = secateur.trace(fresh("t5").eval(), example("t5"), kinds=("depth",))
    names = [x.name for x in g.groups]
    assert "encoder.block.1.layer.1" in names
    pruned = secateur.cut(g, Plan(edits=(Drop(block="encoder.block.1.layer.1"),)))
    assert pruned.check.max_error < 1e-10
