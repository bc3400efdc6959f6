"""Every registered criterion on small transformers: scores, or a refusal that names the group and another way."""

import re
from functools import cache

import pytest
import torch
import transformers

import secateur
from held import batches, loss
from nets import fill, images
from secateur.errors import SecateurError

WORDS = 37
_SIZES = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 32}
_BERT = _SIZES | {"num_attention_heads": 4, "intermediate_size": 48}
_LLAMA = _SIZES | {"num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 48}
TOKENS = {"input_ids": torch.randint(3, WORDS, (2, 6), generator=torch.Generator().manual_seed(1))}


def _transformer(kind, **options):
    model = getattr(transformers, kind)(getattr(transformers, kind[: kind.index("For")] + "Config")(**options))
    kept = {name: tensor.clone() for name, tensor in model.named_buffers()}  # positions and frequencies
    fill(model)
    with torch.no_grad():
        for name, tensor in model.named_buffers():
            tensor.copy_(kept[name])
    return model


def _vit():
    from torchvision.models import VisionTransformer

    return fill(VisionTransformer(16, 8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=48, num_classes=5))


def _timm():
    import timm

    options = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5}
    return fill(timm.create_model("vit_tiny_patch16_224", pretrained=False, **options))


# bert: separate queries, keys and values, norms behind; llama: fewer keys than queries, gated units, RMS norms by hand;
# vit: fused queries, keys and values as parameters of a MultiheadAttention; timm: the same as one linear layer.
MODELS = {
    "bert": (lambda: _transformer("BertForMaskedLM", **_BERT), TOKENS),
    "llama": (lambda: _transformer("LlamaForCausalLM", **_LLAMA, pad_token_id=0), TOKENS),
    "vit": (_vit, images(2, 3, 16, 16)),
    "timm": (_timm, images(2, 3, 16, 16)),
}
NAMES = sorted(secateur.criteria())


@cache
def traced(name, depth):
    build, example = MODELS[name]
    return secateur.trace(build().eval(), example, **({"kinds": ("depth",)} if depth else {}))


def scored(chosen, group, evidence):
    """Its scores, or why there are none."""
    try:
        return chosen.score(group, evidence)
    except SecateurError as error:
        return str(error)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("criterion", NAMES)
def test_scores_or_a_refusal_by_group(criterion, model):
    """A refusal names the group, and says what to do: another criterion, or to leave the group out."""
    chosen = secateur.criteria()[criterion]()
    graph = traced(model, chosen.units == "depth")
    evidence = secateur.collect(graph, chosen, batches=batches(graph.example), loss=loss)
    for group in graph.groups:
        found = scored(chosen, group, evidence)
        if isinstance(found, str):
            assert f"'{group.name}'" in found
            assert re.search(r"use |give |frozen=", found), found
        else:
            assert found.shape == (group.size,)
            assert found.dtype == torch.float64
            assert torch.isfinite(found).all()


WHOLE = ["taylor", "taylor-weight", "taylor-so", "taylor-activation", "fisher", "obd", "snip", "grasp"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("criterion", WHOLE)
def test_criteria_from_gradients_refuse_nothing_and_tell_units_apart(criterion, model):
    graph = traced(model, False)
    scores = secateur.score(graph, criterion, batches=batches(graph.example), loss=loss)
    for group in graph.groups:
        if group.size > 1:
            assert scores[group.name].std() > 0, group.name


@pytest.mark.parametrize("model", MODELS)
def test_a_model_prunes_by_curvature(model):
    graph = traced(model, False)
    pruned = secateur.prune(
        graph.model,
        graph.example,
        budget=secateur.Budget(params=0.7),
        criterion="taylor-so",
        batches=batches(graph.example),
        loss=loss,
    )
    assert pruned.after.params <= 0.7 * pruned.before.params
