"""The transformers part of the zoo: 21 models from small configurations, and what to call them with.

Hidden size 96, 2 or 3 layers, 4 heads; decoders 8 heads of 12, 4 KV heads; vocabulary 211. transformers is imported
only when a model is built.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

TOKENS, VOCABULARY = 12, 211
_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 96, "num_hidden_layers": 2}
_ENCODER = _SIZES | {"num_attention_heads": 4, "intermediate_size": 192, "max_position_embeddings": 64}
_DECODER = _SIZES | {"num_attention_heads": 8, "intermediate_size": 192, "max_position_embeddings": 64}
_GQA = _DECODER | {"num_key_value_heads": 4}
_VIT = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56, "patch_size": 14}
_CLIP_TEXT = _ENCODER | {"bos_token_id": 0, "eos_token_id": VOCABULARY - 1, "pad_token_id": 1}
_STEPS = {"depths": (2, 2, 2), "image_size": 64}
# Relative positions are what DeBERTa's published checkpoints have; the bare default configuration switches them off.
_DEBERTA = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "pad_token_id": 0}
_BART = {"d_model": 96, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 64} | {
    f"{side}_{what}": value
    for side in ("encoder", "decoder")
    for what, value in (("attention_heads", 4), ("ffn_dim", 192))
}
# A quarter of a head of 12 is 3, and rotary embeddings turn pairs: GPT-NeoX and Phi get half of each head.
_ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}
# By default experts run as one grouped product, which on CPU has no float64 and on fake tensors nothing but bfloat16;
# the "eager" loop visits the experts that were hit, so that its path depends on the data. Batched products do neither.
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "experts_implementation": "batched_mm"}

# name -> (configuration class, its arguments, model class)
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bart": ("BartConfig", {"vocab_size": VOCABULARY} | _BART, "BartForConditionalGeneration"),
    "bert": ("BertConfig", _ENCODER, "BertForMaskedLM"),
    "clip": (
        "CLIPConfig",
        {"text_config": _CLIP_TEXT, "vision_config": _VIT | {"intermediate_size": 192}, "projection_dim": 48},
        "CLIPModel",
    ),
    "deberta_v2": ("DebertaV2Config", _ENCODER | _DEBERTA, "DebertaV2ForMaskedLM"),
    "dinov2": ("Dinov2Config", _VIT | {"mlp_ratio": 2}, "Dinov2ForImageClassification"),
    "electra": ("ElectraConfig", _ENCODER | {"embedding_size": 48}, "ElectraForMaskedLM"),
    "falcon": (
        "FalconConfig",
        _SIZES
        | {"num_attention_heads": 8, "num_kv_heads": 4, "new_decoder_architecture": True, "ffn_hidden_size": 192},
        "FalconForCausalLM",
    ),
    "gpt_neox": ("GPTNeoXConfig", _DECODER | _ROTARY, "GPTNeoXForCausalLM"),
    "llama_gqa": ("LlamaConfig", _GQA, "LlamaForCausalLM"),
    "llama_mha": ("LlamaConfig", _DECODER, "LlamaForCausalLM"),
    "mamba": ("MambaConfig", _SIZES | {"state_size": 8}, "MambaForCausalLM"),
    "mistral": ("MistralConfig", _GQA, "MistralForCausalLM"),
    "mixtral": ("MixtralConfig", _GQA | _EXPERTS, "MixtralForCausalLM"),
    "phi": ("PhiConfig", _GQA | _ROTARY, "PhiForCausalLM"),
    "qwen2": ("Qwen2Config", _GQA, "Qwen2ForCausalLM"),
    "qwen3": ("Qwen3Config", _GQA | {"head_dim": 12}, "Qwen3ForCausalLM"),
    "resnet": (
        "ResNetConfig",
        {"embedding_size": 24, "hidden_sizes": (48, 96, 192), "depths": (2, 2, 2)},
        "ResNetForImageClassification",
    ),
    "roberta": ("RobertaConfig", _ENCODER, "RobertaForMaskedLM"),
    "segformer": (
        "SegformerConfig",
        {
            "hidden_sizes": (24, 48, 72, 96),
            "depths": (2, 2, 2, 2),
            "num_attention_heads": (1, 2, 3, 4),
            "decoder_hidden_size": 96,
        },
        "SegformerForSemanticSegmentation",
    ),
    "swin": (
        "SwinConfig",
        _STEPS | {"embed_dim": 24, "num_heads": (1, 2, 4), "window_size": 4},
        "SwinForImageClassification",
    ),
    "t5": (
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 96, "d_kv": 24, "d_ff": 192, "num_layers": 2, "num_heads": 4},
        "T5ForConditionalGeneration",
    ),
}
NAMES = tuple(CONFIGURATIONS)
_IMAGES = {"clip": 56, "dinov2": 56, "resnet": 64, "segformer": 64, "swin": 64}
_ENCODER_DECODER = ("bart", "t5")
DECODERS = (
    *_ENCODER_DECODER,
    *("falcon", "gpt_neox", "llama_gqa", "llama_mha", "mamba", "mistral", "mixtral", "phi", "qwen2", "qwen3"),
)


def build(name: str) -> nn.Module:
    """The model, with the random weights that transformers gives it."""
    import transformers

    config, options, model = CONFIGURATIONS[name]
    built: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**options))
    return built


def example(name: str, batch: int, generator: torch.Generator, cache: bool = False) -> dict[str, Any]:
    """Keyword inputs: tokens (batch, 12), images (batch, 3, H, H), and for decoders whether to give a cache back."""
    given: dict[str, Any] = {}
    if name not in _IMAGES or name == "clip":
        given["input_ids"] = _tokens(batch, generator)
    if name in _IMAGES:
        size = _IMAGES[name]
        given["pixel_values"] = torch.randn(batch, 3, size, size, generator=generator)
    if name == "clip":
        given["input_ids"][:, -1] = VOCABULARY - 1  # the token at which the text is pooled
    if name in _ENCODER_DECODER:
        given["decoder_input_ids"] = _tokens(batch, generator)
    if name in DECODERS:
        given["use_cache"] = cache
    return given


def _tokens(batch: int, generator: torch.Generator) -> Tensor:
    return torch.randint(3, VOCABULARY - 1, (batch, TOKENS), generator=generator)  # no padding, no end
