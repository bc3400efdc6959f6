"""Tiny language models of transformers, with weights that hide nothing, and what to call them with."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor, nn

import secateur
from nets import fill
from secateur.allocation.uniform import Uniform

WORDS = 37
_ENDS = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": 0}
_LLAMA = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 8} | {
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
_GPT2 = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_OPT = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4} | {
    "ffn_dim": 48,
    "word_embed_proj_dim": 32,
    "max_position_embeddings": 64,
}
_T5 = {"vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}

# name -> (configuration, its arguments, model)
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", _LLAMA, "LlamaForCausalLM"),
    "qwen3": ("Qwen3Config", _LLAMA | {"head_dim": 6, "tie_word_embeddings": True}, "Qwen3ForCausalLM"),
    "gpt2": ("GPT2Config", _GPT2, "GPT2LMHeadModel"),
    "opt": ("OPTConfig", _OPT, "OPTForCausalLM"),
    "t5": ("T5Config", _T5 | {"decoder_start_token_id": 0}, "T5ForConditionalGeneration"),
}
NAMES = tuple(FAMILIES)
TIED = ("qwen3", "gpt2", "opt", "t5")
HOW: dict[str, dict[str, Any]] = {
    "half of each": {"allocator": Uniform(keep=0.5)},
    "ranked": {"budget": secateur.Budget(params=0.55)},  # another width in each layer
}


def config(name: str, **other: Any) -> Any:
    """The configuration, by the author's class."""
    kind, options, _ = FAMILIES[name]
    return getattr(transformers, kind)(**_ENDS | options | other)


def fresh(name: str, seed: int = 0, **other: Any) -> nn.Module:
    """A new model in training mode; weights that make each token depend on all before it."""
    whole = {}
    model: nn.Module = getattr(transformers, FAMILIES[name][2])(config(name, **other))
    for key, tensor in model.named_buffers():  # positions and rotary frequencies are the author's
        whole[key] = tensor.clone()
    fill(model, seed)
    with torch.no_grad():
        for key, tensor in model.named_buffers():
            tensor.copy_(whole[key])
    return model.train()


def words(batch: int = 2, length: int = 6, seed: int = 1) -> Tensor:
    """(batch, length) token numbers, without the padding token."""
    return torch.randint(3, WORDS, (batch, length), generator=torch.Generator().manual_seed(seed))


def example(name: str, batch: int = 2) -> dict[str, Any]:
    """What the model is pruned with."""
    given: dict[str, Any] = {"input_ids": words(batch)}
    return given | ({"decoder_input_ids": words(batch, 5, 2)} if name == "t5" else {})


@cache
def cut(name: str, how: str = "half of each") -> secateur.Pruned:
    """A cut model, made once; tests must not change it."""
    return secateur.prune(fresh(name), example(name), **HOW[how])


def logits(model: nn.Module, given: dict[str, Any]) -> Tensor:
    """(batch, length, words), in eval mode, which is left as it was."""
    mode = model.training
    with torch.no_grad():
        out: Tensor = model.eval()(**given).logits
    model.train(mode)
    return out
