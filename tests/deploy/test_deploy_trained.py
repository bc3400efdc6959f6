"""A cut language model trains on: gradients everywhere, ties, loss from labels, checkpointing, new words."""

import copy

import pytest
import torch
from deploy_models import HOW, NAMES, TIED, WORDS, cut, example, fresh, logits, words
from torch import nn

import secateur


def small(name, how="ranked"):
    """One's own copy of a cut model, to change."""
    return copy.deepcopy(cut(name, how).model)


def labelled(name):
    given = example(name)
    return given | {"labels": given.get("decoder_input_ids", given["input_ids"])}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", NAMES)
def test_training_steps_lower_the_loss(name, how):
    model = small(name, how).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    torch.manual_seed(0)
    for _ in range(8):
        loss = model(**labelled(name)).loss
        optimizer.zero_grad()
        loss.backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or p.grad.shape != p.shape] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_ties_stay_ties(name):
    for model in (cut(name).model, cut(name, "ranked").model):
        head, table = model.get_output_embeddings(), model.get_input_embeddings()
        assert (head.weight is table.weight) == (name in TIED)
        assert head.weight.shape == table.weight.shape == (WORDS, head.in_features)
        assert (head.in_features, head.out_features) == (table.embedding_dim, WORDS)
    if name == "t5":
        assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight


@pytest.mark.parametrize("name", TIED)
def test_a_tied_weight_is_counted_once_and_trained_as_one(name):
    model = small(name)
    assert sum(p.numel() for p in model.parameters()) == cut(name, "ranked").after.params
    model.eval()(**labelled(name)).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_states_its_own_sizes(name):
    for module in cut(name, "ranked").model.modules():
        if isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == module.weight.shape
        elif isinstance(module, nn.Embedding):
            assert (module.num_embeddings, module.embedding_dim) == module.weight.shape
        elif isinstance(module, nn.LayerNorm):
            assert module.normalized_shape == tuple(module.weight.shape)
        elif type(module).__name__ == "Conv1D":
            assert module.nf == module.weight.shape[1]


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_grouped_queries_keep_their_share(name):
    dim = 4 if name == "llama" else 6
    for layer in cut(name, "ranked").model.model.layers:
        attention = layer.self_attn
        keys = attention.k_proj.out_features
        assert keys == attention.v_proj.out_features == attention.q_proj.out_features // 2
        assert attention.o_proj.in_features == 2 * keys
        assert attention.num_key_value_groups == 2
        assert keys % dim == 0 < keys


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_gradient_checkpointing_gives_the_same_gradients(name):
    plain, stored = small(name).train(), small(name).train()
    stored.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for model in (plain, stored):
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.config.use_cache = False
        for layer in model.modules():
            if hasattr(layer, "dropout") and isinstance(layer.dropout, float):
                layer.dropout = 0.0
        model(**labelled(name)).loss.backward()
    assert any(getattr(m, "gradient_checkpointing", False) for m in stored.modules())
    for a, b in zip(plain.parameters(), stored.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_new_words_find_room(name):
    model = small(name)
    said = logits(model, example(name))
    model.resize_token_embeddings(WORDS + 5, mean_resizing=False)
    grown = logits(model, example(name))
    assert grown.shape[-1] == WORDS + 5
    assert torch.equal(grown[..., :WORDS], said)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == (name in TIED)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_weights_stay_frozen_and_the_rest_trains(name):
    model = fresh(name)
    for key, p in model.named_parameters():
        p.requires_grad_("0" in key.split("."))
    wanted = {n for n, p in model.named_parameters() if p.requires_grad}
    made = secateur.prune(model, example(name), **HOW["half of each"]).model
    assert {n for n, p in made.named_parameters() if p.requires_grad} == wanted
    made(**labelled(name)).loss.backward()
    assert {n for n, p in made.named_parameters() if p.grad is not None} == wanted


def test_embeddings_given_in_place_of_words():
    model, ids = cut("llama", "ranked").model.eval(), words()
    given = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=given).logits, model(input_ids=ids).logits)
