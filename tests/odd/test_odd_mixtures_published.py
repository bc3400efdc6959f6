"""The mixtures of transformers, with experts computed in each of its ways: cut, trained, stored, asked to write."""

import pytest
import torch
from odd_case import refusal
from odd_experts import BOTH

import secateur
from held import difference, loss, random_plan, tensors_of
from secateur.errors import CheckpointError, TraceError

SIZES = {
    "vocab_size": 53,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
SIZES |= {"intermediate_size": 24, "moe_intermediate_size": 16, "max_position_embeddings": 32, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
MODELS = {
    "Mixtral": {"num_local_experts": 5},
    "Qwen2Moe": {"num_experts": 5, "shared_expert_intermediate_size": 12, "decoder_sparse_step": 1},
    "Qwen3Moe": {"num_experts": 5, "head_dim": 8},
    "DeepseekV3": LATENT | {"n_routed_experts": 6, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    "GptOss": {"num_local_experts": 5, "head_dim": 8},
}
TOKENS = {"input_ids": torch.tensor([[1, 4, 0, 9, 2, 7, 33, 20], [3, 3, 10, 2, 7, 50, 41, 6]]), "use_cache": False}


def mixture(name, implementation):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES | MODELS[name])
    config._experts_implementation = implementation
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for tensor in tensors_of(model).values():
            if tensor.is_floating_point() and tensor.dim() > 1:
                tensor.normal_(std=0.4)
    return model


@pytest.mark.parametrize("implementation", ["batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", MODELS)
def test_the_experts_of_transformers(name, implementation):
    model = mixture(name, implementation)
    g = secateur.trace(model, TOKENS, kinds="expert")
    layers = 1 if name == "DeepseekV3" else 2
    assert [(x.size, x.least) for x in g.groups] == [(6 if name == "DeepseekV3" else 5, 2)] * layers
    pruned = secateur.cut(g, random_plan(g, keep=0.6))
    assert pruned.check.max_error < 1e-9
    assert pruned.after.params < pruned.before.params
    assert model(**TOKENS).logits.shape == pruned.model(**TOKENS).logits.shape
    held = {n: v for m in pruned.model.modules() for n, v in vars(m).items() if n == "num_experts"}
    assert set(held.values()) == {3}
    secateur.cut(g, random_plan(g, seed=1))
    pruned.model.config._experts_implementation = "grouped_mm" if implementation == "batched_mm" else "batched_mm"
    other = run_float(pruned.model)
    pruned.model.config._experts_implementation = implementation
    assert difference([other], [run_float(pruned.model)]) < 1e-4


def run_float(model):
    with torch.no_grad():
        return model(**TOKENS).logits


def test_a_cut_mixtral_writes_with_a_cache_what_it_writes_without():
    model = mixture("Mixtral", "batched_mm")
    g = secateur.trace(model, TOKENS, kinds=BOTH)
    small = secateur.cut(g, random_plan(g, keep=0.6)).model
    given = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    told = [small.generate(TOKENS["input_ids"], use_cache=cache, **given) for cache in (True, False)]
    assert told[0].equal(told[1])
    loss(small.train()(**TOKENS).logits, None).backward()
    assert all(p.grad is not None for p in small.parameters())


def test_a_mixtral_whose_layers_agree_saves_itself(tmp_path):
    model = mixture("Mixtral", "batched_mm")
    g = secateur.trace(model, TOKENS, kinds="expert")
    alike = secateur.cut(g, random_plan(g, keep=0.6)).model
    alike.save_pretrained(tmp_path)
    read = type(model).from_pretrained(tmp_path, experts_implementation="batched_mm")
    assert alike.config.num_local_experts == read.config.num_local_experts == 3
    assert run_float(read).equal(run_float(alike))
    first, second = g.groups
    unlike = secateur.cut(g, secateur.Plan.keeping(g, {first.name: [0, 1, 4], second.name: [1, 2]})).model
    assert unlike.config.num_local_experts == 5
    with pytest.raises(CheckpointError, match="save_pretrained"):
        unlike.save_pretrained(tmp_path)


def test_experts_visited_one_by_one_are_refused_with_their_line():
    model = mixture("Mixtral", "eager")
    assert "modeling_mixtral.py" in refusal(TraceError, lambda: secateur.trace(model, TOKENS, kinds="expert"))
