"""Language models as they come: transposed weights, blocks one after the other, a head tied to the embedding."""

import copy

import pytest
import torch

import secateur
from held import assert_unchanged
from secateur import Pattern
from secateur.errors import BadModel

transformers = pytest.importorskip("transformers")
IDS = {"input_ids": torch.arange(24).reshape(3, 8) % 11}


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=11, n_positions=16)
    return transformers.GPT2LMHeadModel(config).eval()


def llama():
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 8, "intermediate_size": 12}
    config = transformers.LlamaConfig(num_hidden_layers=2, vocab_size=11, **sizes)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize(("build", "head"), [(gpt2, "transformer.wte.weight"), (llama, "lm_head.weight")])
@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_runs_of_inputs_in_every_layer_but_the_head(build, head, criterion):
    model = build()
    with assert_unchanged(model):
        found = secateur.sparsify(
            model, IDS, criterion=criterion, pattern=Pattern(keep=2, of=4), batches=[(IDS, None)], exclude="lm_head"
        )
    assert head not in found.masks
    assert len(found.masks) == (8 if build is gpt2 else 14)
    for name, mask in found.masks.items():
        inputs_first = mask.T if "c_" in name else mask  # Conv1D holds (inputs, outputs)
        assert (inputs_first.unflatten(1, (-1, 4)).sum(2) == 2).all()
        assert not found.model.get_parameter(name)[~mask].any()
    if build is gpt2:
        assert found.model.lm_head.weight is found.model.transformer.wte.weight


def test_a_tied_head_is_a_weight_once():
    found = secateur.sparsify(gpt2(), IDS, sparsity=0.5)
    assert found.counts["transformer.wte.weight"].zeros == 44
    assert "lm_head.weight" not in found.counts
    assert found.left["transformer.wpe.weight"].startswith("no linear layer")


def test_the_second_block_is_scored_behind_the_pruned_first():
    model, seen = gpt2(), {}
    found = secateur.sparsify(model, IDS, criterion="wanda", sparsity=0.5, batches=[(IDS, None)], exclude="lm_head")
    half = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in found.masks.items():
            if ".h.0." in name:
                half.get_parameter(name).mul_(mask)
    layer = half.transformer.h[1].mlp.c_proj
    layer.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    half(**IDS)
    score = layer.weight.detach().double().abs() * seen["x"].flatten(0, 1).double().norm(dim=0)[:, None]
    expected = torch.ones_like(score, dtype=torch.bool).scatter(0, score.argsort(0)[:16], False)
    assert torch.equal(found.masks["transformer.h.1.mlp.c_proj.weight"], expected)


def test_other_criteria_and_what_cannot_be_watched():
    loss = {"loss": lambda out, t: torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), t.flatten())}
    batches = [(IDS, IDS["input_ids"])]
    for criterion in ("obd", "snip"):
        found = secateur.sparsify(llama(), IDS, criterion=criterion, sparsity=0.5, batches=batches, **loss)
        assert sum(c.zeros for c in found.counts.values()) == sum(c.size for c in found.counts.values()) // 2
    with pytest.raises(BadModel, match=r"embed_tokens.*no linear layer"):
        secateur.sparsify(llama(), IDS, sparsity=0.5, include="model.embed_tokens")
