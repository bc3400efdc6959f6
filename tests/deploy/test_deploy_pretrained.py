"""save_pretrained stores a config beside the weights: it refuses where they disagree, and works where they do not."""

import copy
import pickle

import pytest
import torch
from deploy_models import HOW, NAMES, cut, example, fresh, logits

import secateur
from held import assert_unchanged, same_weights
from secateur.allocation.uniform import Uniform
from secateur.errors import CheckpointError


def mismatches(model, name):
    """name -> the two shapes, of tensors that a model of the original config has otherwise."""
    theirs = {k: tuple(v.shape) for k, v in fresh(name).state_dict().items()}
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert theirs.keys() == ours.keys()
    return {k: (theirs[k], ours[k]) for k in ours if theirs[k] != ours[k]}


def assert_refused(model, path, name):
    with assert_unchanged(model), pytest.raises(CheckpointError) as told:
        model.save_pretrained(path)
    shapes = mismatches(model, name)
    assert any(all(str(part) in str(told.value) for part in (key, *pair)) for key, pair in shapes.items())
    assert "secateur.save" in str(told.value)
    assert not path.exists() or list(path.iterdir()) == []


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", NAMES)
def test_a_config_that_no_longer_describes_the_model_is_not_stored(name, how, tmp_path):
    assert_refused(cut(name, how).model, tmp_path / "there", name)


def test_no_way_around(tmp_path):
    """Copies, pickles, the model cut in place, what is cut again, and the part that holds the layers."""
    pruned = cut("llama", "ranked")
    assert_refused(copy.deepcopy(pruned.model), tmp_path / "a", "llama")
    assert_refused(pickle.loads(pickle.dumps(pruned.model)), tmp_path / "b", "llama")
    mine = fresh("llama")
    secateur.prune_(mine, example("llama"), **HOW["ranked"])
    assert_refused(mine, tmp_path / "c", "llama")
    again = secateur.prune(pruned, example("llama"), allocator=Uniform(keep=0.7))
    assert_refused(again.model, tmp_path / "d", "llama")
    with pytest.raises(CheckpointError, match="embed_tokens"):
        pruned.model.model.save_pretrained(tmp_path / "e")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_judged_by_itself(tmp_path):
    """The guard of a copy does not look at the model it was copied from."""
    made = secateur.prune(fresh("llama"), example("llama"), allocator=Uniform(keep=0.5), kinds="neuron").model
    other = copy.deepcopy(made)
    other.config.intermediate_size = 24
    other.save_pretrained(tmp_path / "other")
    assert_refused(made, tmp_path / "made", "llama")


def test_a_loaded_model_is_guarded_too(tmp_path):
    secateur.save(cut("gpt2"), tmp_path / "small.safetensors")
    assert_refused(secateur.load(tmp_path / "small.safetensors", into=fresh("gpt2")), tmp_path / "there", "gpt2")


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_was_cut_it_saves_and_loads(name, tmp_path):
    graph = secateur.trace(fresh(name), example(name))
    pruned = secateur.cut(graph, secateur.Plan())
    pruned.model.save_pretrained(tmp_path)
    back = type(graph.model).from_pretrained(tmp_path)
    assert torch.equal(logits(back, example(name)), logits(graph.model, example(name)))


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "opt"])
def test_a_config_that_the_owner_brought_up_to_date_is_stored(name, tmp_path):
    """Half of each group is a shape that the family's own config can state; then others can load it without us."""
    model = copy.deepcopy(cut(name).model)
    stated = {
        "llama": {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4},
        "qwen3": {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2},
        "gpt2": {"n_embd": 16, "n_head": 2, "n_inner": 64},
        "opt": {"hidden_size": 16, "word_embed_proj_dim": 16, "num_attention_heads": 2, "ffn_dim": 24},
    }[name]
    for key, value in (stated | ({"intermediate_size": 24} if name in ("llama", "qwen3") else {})).items():
        setattr(model.config, key, value)
    model.save_pretrained(tmp_path)
    back = type(model).from_pretrained(tmp_path)
    assert same_shapes(back, model)
    assert torch.equal(logits(back, example(name)), logits(model, example(name)))


def same_shapes(a, b):
    return {k: v.shape for k, v in a.state_dict().items()} == {k: v.shape for k, v in b.state_dict().items()}


def test_the_original_is_not_guarded(tmp_path):
    model = fresh("llama")
    secateur.prune(model, example("llama"), **HOW["ranked"])
    assert "save_pretrained" not in vars(model)
    model.save_pretrained(tmp_path)
    assert same_weights(type(model).from_pretrained(tmp_path), model)
