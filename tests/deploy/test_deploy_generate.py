"""A cut language model generates: with a cache as without, padded as unpadded, and as the masked original does."""

import copy

import pytest
import torch
from deploy_models import HOW, NAMES, config, cut, example, fresh, logits, words

import secateur
from held import zeroed
from secateur.allocation.uniform import Uniform

DECODERS = [n for n in NAMES if n != "t5"]
STEPS = 7


def greedy(model, ids, **options):
    """(batch, tokens) as `generate` gives them, without sampling."""
    model.eval()
    return model.generate(input_ids=ids, max_new_tokens=STEPS, do_sample=False, **options)


def by_forwards(model, ids, name):
    """Greedy decoding by one whole forward for each token."""
    given = {"input_ids": ids} | ({"decoder_input_ids": torch.zeros_like(ids[:, :1])} if name == "t5" else {})
    grown = "decoder_input_ids" if name == "t5" else "input_ids"
    for _ in range(STEPS):
        following = logits(model, given | {"use_cache": False})[:, -1].argmax(-1, keepdim=True)
        given[grown] = torch.cat([given[grown], following], 1)
    return given[grown]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_the_same_with_a_cache_without_and_by_forwards(name, how):
    model = cut(name, how).model
    for ids in (words(), words(1, 9, seed=4), words(5, 3, seed=5)):
        cached = greedy(model, ids, use_cache=True)
        assert torch.equal(cached, greedy(model, ids, use_cache=False))
        assert torch.equal(cached, by_forwards(model, ids, name))
        assert cached.shape[1] == STEPS + (1 if name == "t5" else ids.shape[1])


@pytest.mark.parametrize("name", NAMES)
def test_other_ways_to_generate(name):
    """Beams, a cache of fixed size, attention written out."""
    model, ids = copy.deepcopy(cut(name, "ranked").model), words(3)  # a fixed cache leaves its length on the model
    wanted = greedy(model, ids)
    assert torch.equal(wanted, greedy(model, ids, cache_implementation="static"))
    assert torch.equal(greedy(model, ids, num_beams=3), greedy(model, ids, num_beams=3, use_cache=False))
    model.set_attn_implementation("eager")
    assert torch.equal(wanted, greedy(model, ids))


@pytest.mark.parametrize("name", DECODERS)
def test_padding_on_the_left_changes_nothing(name):
    model = cut(name, "ranked").model
    ids = [words(1, n, seed=n) for n in (3, 6, 8)]
    padded = torch.cat([torch.nn.functional.pad(x, (8 - x.shape[1], 0)) for x in ids])
    mask = (padded != 0).long()
    together = greedy(model, padded, attention_mask=mask)
    for x, row in zip(ids, together, strict=True):
        assert row[8:].tolist() == greedy(model, x, attention_mask=torch.ones_like(x))[0, x.shape[1] :].tolist()


def test_padding_of_what_is_encoded_changes_nothing():
    model = cut("t5", "ranked").model
    ids = [words(1, n, seed=n) for n in (3, 6, 8)]
    padded = torch.cat([torch.nn.functional.pad(x, (0, 8 - x.shape[1])) for x in ids])
    together = greedy(model, padded, attention_mask=(padded != 0).long())
    for x, row in zip(ids, together, strict=True):
        assert row.tolist() == greedy(model, x, attention_mask=torch.ones_like(x))[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_the_masked_original_says_the_same(name):
    """Heads and hidden neurons: readers set to zero in the original are a reference that knows nothing of a cut."""
    model = fresh(name).double().eval()
    graph = secateur.trace(model, example(name), kinds=("head", "neuron"))
    scores = secateur.score(graph, "l2")
    pruned = secateur.cut(graph, secateur.allocate(graph, scores, allocator=Uniform(keep=0.5)))
    assert {g.kind for g in graph.groups} == {"head", "neuron"}
    ids = words(3, 5, seed=8)
    said = greedy(pruned.model, ids)
    assert torch.equal(said, greedy(zeroed(graph, pruned.plan), ids))
    assert not torch.equal(said, greedy(model, ids))  # else nothing were said


@pytest.mark.parametrize("name", DECODERS)
def test_a_conversation_goes_on_from_its_cache(name):
    model, ids = cut(name).model.eval(), words(2, 8, seed=3)
    with torch.no_grad():
        first = model(ids[:, :5], use_cache=True)
        rest = model(ids[:, 5:], past_key_values=first.past_key_values, use_cache=True).logits
        assert (rest - model(ids).logits[:, 5:]).abs().max() < 1e-4


def test_a_cache_is_as_small_as_the_heads_that_are_left():
    pruned = cut("llama", "ranked")
    cache = pruned.model.eval()(words(), use_cache=True).past_key_values
    widths = [layer.self_attn.k_proj.out_features for layer in pruned.model.model.layers]
    assert [layer.keys.shape for layer in cache.layers] == [(2, w // 4, 6, 4) for w in widths]
    assert sum(widths) < 2 * 16


def test_a_cut_model_drafts_for_the_whole_one():
    """Assisted decoding: the whole model's tokens, whatever the draft says."""
    whole, draft = fresh("llama").eval(), cut("llama", "ranked").model.eval()
    ids = words(1, 6)
    assert torch.equal(greedy(whole, ids), greedy(whole, ids, assistant_model=draft))


@pytest.mark.parametrize("cached", [True, False])
def test_a_config_that_forbids_the_cache_is_pruned_alike(cached):
    model = fresh("llama", use_cache=cached)
    assert model.config.use_cache is cached is config("llama", use_cache=cached).use_cache
    made = secateur.prune(model, example("llama"), **HOW["ranked"])
    assert made.plan == cut("llama", "ranked").plan
