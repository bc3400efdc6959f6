"""Gates of weights that layers also read along the axis that they write, against finite differences of real gates."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import secateur
from nets import fill, images
from secateur.errors import BadModel

WORDS = 23
_SIZES = {"vocab_size": WORDS, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
_LLAMA = _SIZES | {"num_key_value_heads": 2, "intermediate_size": 12, "tie_word_embeddings": True, "pad_token_id": 0}
_GPT2 = {"vocab_size": WORDS, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}


def language_model(kind, **options):
    config = getattr(transformers, f"{kind}Config")(**options)
    model = getattr(transformers, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config)
    kept = {name: tensor.clone() for name, tensor in model.named_buffers()}
    fill(model).double()
    for name, tensor in model.named_buffers():
        tensor.data.copy_(kept[name])
    return model.eval()


class Back(nn.Module):
    """An autoencoder that decodes with the encoder's weight."""

    def __init__(self):
        super().__init__()
        self.encode, self.shift = nn.Linear(8, 6), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return F.linear(torch.tanh(self.encode(x)), self.encode.weight.t(), self.shift)


def gpt2():
    return language_model("GPT2", **_GPT2)


def llama():
    return language_model("Llama", **_LLAMA)


TOKENS = torch.randint(1, WORDS, (2, 5), generator=torch.Generator().manual_seed(1))
# Model, input, group, and the modules that write it: their outputs are what its gate multiplies.
CASES = {
    "gpt2": (gpt2, {"input_ids": TOKENS}, ["wte", "wpe", "h.0.attn.c_proj", "h.0.mlp.c_proj"]),
    "llama": (llama, {"input_ids": TOKENS}, ["embed_tokens", "layers.0.self_attn.o_proj", "layers.0.mlp.down_proj"]),
    "autoencoder": (lambda: fill(Back()).double(), images(3, 8).double(), ["encode"]),
}


def loss(output, _=None):
    return getattr(output, "logits", output).tanh().square().mean()


def written(model, ends):
    """The modules of these names, whatever they lie in."""
    found = dict(model.named_modules())
    return [next(m for n, m in found.items() if n.endswith(end)) for end in ends]


def gated(model, example, modules, z):
    """The loss where each of these modules' outputs is multiplied by z along its last axis."""
    hooks = [m.register_forward_hook(lambda _m, _i, out: out * z) for m in modules]
    output = model(**example) if isinstance(example, dict) else model(example)
    for hook in hooks:
        hook.remove()
    return loss(output)


def traced(name):
    build, example, ends = CASES[name]
    model = build()
    graph = secateur.trace(model, example)
    modules = written(model, ends)
    path = next(n for n, m in model.named_modules() if m is modules[0])
    return model, example, modules, graph, graph[path]


def gradient(model, example, modules, size, value=1.0):
    """dL/dz of a real gate: (size,)."""
    z = torch.full((size,), value, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(gated(model, example, modules, z), z)[0]


@pytest.mark.parametrize("name", CASES)
def test_gates_stand_on_what_is_written(name):
    model, example, modules, graph, group = traced(name)
    g = gradient(model, example, modules, group.size)
    snip, taylor = (secateur.score(graph, c, batches=[(example, None)], loss=loss) for c in ("snip", "taylor"))
    rtol = 1e-5 if name == "llama" else 1e-9  # its norms compute in single precision
    torch.testing.assert_close(snip[group.name], g.abs(), rtol=rtol, atol=1e-9)
    torch.testing.assert_close(taylor[group.name], g**2 / len(modules), rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("name", ["gpt2", "autoencoder"])
def test_gates_by_finite_differences(name):
    model, example, modules, graph, group = traced(name)
    step, ones = 1e-5, torch.ones(group.size, dtype=torch.float64)
    with torch.no_grad():
        ways = [[gated(model, example, modules, ones + s * e) for s in (step, -step)] for e in torch.eye(group.size)]
    differences = torch.stack([(up - down) / (2 * step) for up, down in ways])
    snip = secateur.score(graph, "snip", batches=[(example, None)], loss=loss)
    torch.testing.assert_close(snip[group.name], differences.abs(), rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("name", ["gpt2", "autoencoder"])
def test_second_derivatives_are_of_gates_on_what_is_written(name):
    """The Hessian of all gates times ones, of a model with this group alone: by differences of gradients."""
    model, example, modules, _, group = traced(name)
    graph = secateur.trace(model, example)
    others = [g.name for g in graph.groups if g.name != group.name]
    graph = secateur.trace(model, example, frozen=others)
    assert [g.name for g in graph.groups] == [group.name]

    step = 1e-5
    below, at, above = (gradient(model, example, modules, group.size, 1 + s) for s in (-step, 0.0, step))
    by_hand = (at - (above - below) / (4 * step)) ** 2 / len(modules)
    scores = secateur.score(graph, "taylor-so", batches=[(example, None)], loss=loss)
    torch.testing.assert_close(scores[group.name], by_hand, rtol=1e-5, atol=1e-10)


class Turned(nn.Module):
    """Writes through a transposed view of its weight, and reads through the weight."""

    def __init__(self):
        super().__init__()
        self.w, self.head = nn.Parameter(torch.zeros(8, 6)), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(F.linear(torch.tanh(F.linear(x, self.w.t())), self.w).relu())


def test_uses_that_cannot_be_told_apart_are_refused_by_name():
    x = images(3, 8).double()
    graph = secateur.trace(fill(Turned()).double(), x)
    for criterion in ("taylor", "snip", "taylor-so"):
        with pytest.raises(BadModel, match="w both writes and reads it"):
            secateur.score(graph, criterion, batches=[(x, None)], loss=loss)
    secateur.score(graph, "fisher", batches=[(x, None)], loss=loss)
