"""Gates where layers read, against real gates and true changes of the loss, however writers are joined."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import secateur
from gated import assert_close
from nets import fill, images
from secateur.errors import BadExample, BadModel, BadOption
from secateur.evidence.collect import collect

WORDS = 23
TOKENS = torch.randint(1, WORDS, (2, 5), generator=torch.Generator().manual_seed(1))


def linear_loss(output, _=None):
    return (output * torch.arange(1, output.shape[-1] + 1)).sum()


def smooth_loss(output, _=None):
    return getattr(output, "logits", output).tanh().square().mean()


class Depthwise(nn.Module):
    """A convolution, one for each channel behind it, and a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.deep = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, groups=6, padding=1, bias=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.deep(self.conv(x)).mean((2, 3)))


class Product(nn.Module):
    """Units that two layers write, multiplied."""

    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Attention(nn.Module):
    """Heads, which queries, keys and values write."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, 2)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


LINEAR = {
    "depthwise": (Depthwise, images(4, 2, 6, 6)),
    "product": (Product, images(4, 5)),
    "heads": (Attention, images(4, 3, 8)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_where_the_loss_is_linear_it_is_what_removal_changes(name):
    """|L - L without unit k| = sqrt(taylor) = sqrt(taylor-so) = sqrt(fisher) = snip, whatever writes the unit."""
    build, x = LINEAR[name]
    net, x = fill(build()).double().eval(), x.double()
    graph = secateur.trace(net, x)
    (group,) = graph.groups
    changes = []
    for k in range(group.size):
        plan = secateur.Plan.keeping(graph, {group.name: [u for u in range(group.size) if u != k]})
        changes.append(linear_loss(net(x)) - linear_loss(secateur.cut(graph, plan).model.eval()(x)))
    changes = torch.stack(changes).detach().abs()
    score = {c: secateur.score(graph, c, batches=[(x, None)], loss=linear_loss)[group.name] for c in ("snip", "taylor")}
    second = secateur.score(graph, "taylor-so", batches=[(x, None)], loss=linear_loss)[group.name]
    single = [(x[i : i + 1], None) for i in range(1)]
    one = secateur.score(graph, "fisher", batches=single, loss=linear_loss)[group.name]
    also = secateur.score(graph, "taylor", batches=single, loss=linear_loss)[group.name]
    assert_close(score["snip"], changes)
    assert_close(score["taylor"].sqrt(), changes)
    assert_close(second.sqrt(), changes)
    assert_close(one, also)


def test_a_layer_that_does_nothing_changes_nothing():
    """A depthwise convolution with ones in the middle."""
    net = fill(nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Identity(), nn.Flatten(), nn.Linear(96, 3))).double()
    more = nn.Sequential(net[0], net[1], nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False).double(), net[3], net[4])
    with torch.no_grad():
        more[2].weight.zero_()[:, :, 1, 1] = 1.0
    x = images(4, 2, 6, 6).double()
    for criterion in ("taylor", "snip", "taylor-so", "fisher", "taylor-activation"):
        one, other = (
            secateur.score(secateur.trace(m, x), criterion, batches=[(x, torch.arange(4) % 3)])["0"]
            for m in (net, more)
        )
        assert_close(one, other)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(5, affine=False), nn.BatchNorm2d(5)], ids=["plain", "affine"])
@pytest.mark.parametrize("early", [True, False])
def test_a_gate_stands_behind_norm_and_activation(norm, early):
    """Convolution, ReLU, norm as well as convolution, norm, ReLU."""
    middle = (nn.ReLU(), norm) if early else (norm, nn.ReLU())
    net = fill(nn.Sequential(nn.Conv2d(1, 5, 3), *middle, nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(16, 3)))
    net, x, y = net.double().eval(), images(4, 1, 6, 6).double(), torch.arange(4) % 3
    z = torch.ones(5, 1, 1, dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(F.cross_entropy(net[3:](net[:3](x) * z), y), z)
    assert_close(secateur.score(secateur.trace(net, x), "snip", batches=[(x, y)])["0"], g.flatten().abs())


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
        self.encode, self.act, self.shift = nn.Linear(8, 6), nn.Tanh(), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return F.linear(self.act(self.encode(x)), self.encode.weight.t(), self.shift)


class Turned(nn.Module):
    """Writes through a transposed view of its weight, and reads through the weight."""

    def __init__(self):
        super().__init__()
        self.w, self.head, self.tanh = nn.Parameter(torch.zeros(8, 6)), nn.Linear(8, 3), nn.Tanh()

    def forward(self, x):
        return self.head(F.linear(self.tanh(F.linear(x, self.w.t())), self.w).relu())


_SIZES = {"vocab_size": WORDS, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
_LLAMA = _SIZES | {"num_key_value_heads": 2, "intermediate_size": 12, "tie_word_embeddings": True, "pad_token_id": 0}
_GPT2 = {"vocab_size": WORDS, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
# Model, input, the start of a group's name, and modules that give what layers read of it, all that do.
TIED = {
    "gpt2": (lambda: language_model("GPT2", **_GPT2), {"input_ids": TOKENS}, "wte", ["ln_1", "ln_2", "ln_f"]),
    "llama": (
        lambda: language_model("Llama", **_LLAMA),
        {"input_ids": TOKENS},
        "embed_tokens",
        ["input_layernorm", "post_attention_layernorm", "model.norm"],
    ),
    "autoencoder": (lambda: fill(Back()).double(), images(3, 8).double(), "encode", ["act"]),
    "turned": (lambda: fill(Turned()).double(), images(3, 8).double(), "w", ["tanh"]),
}


@pytest.mark.parametrize("name", TIED)
def test_weights_that_write_what_they_read_do_not_matter(name):
    """Tied embeddings, say: gates stand on what is read, each tensor once."""
    build, example, start, ends = TIED[name]
    model = build()
    graph = secateur.trace(model, example)
    group = next(g for g in graph.groups if g.name.rpartition(".")[2].startswith(start) or g.name.startswith(start))
    modules = [m for n, m in model.named_modules() if any(n.endswith(e) for e in ends)]
    z = torch.ones(group.size, dtype=torch.float64, requires_grad=True)
    hooks = [m.register_forward_hook(lambda _m, _i, out: out * z.to(out)) for m in modules]
    output = model(**example) if isinstance(example, dict) else model(example)
    (g,) = torch.autograd.grad(smooth_loss(output), z)
    for hook in hooks:
        hook.remove()
    rtol = 1e-5 if name == "llama" else 1e-9  # its norms compute in single precision
    snip, taylor = (secateur.score(graph, c, batches=[(example, None)], loss=smooth_loss) for c in ("snip", "taylor"))
    torch.testing.assert_close(snip[group.name], g.abs(), rtol=rtol, atol=1e-9)
    torch.testing.assert_close(taylor[group.name], g**2 / len(modules), rtol=rtol, atol=1e-9)


class Sequences(nn.Module):
    """Positions first inside, as some attention is computed; examples first outside."""

    def __init__(self, flat=False):
        super().__init__()
        self.flat, self.one, self.two, self.head = flat, nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = self.one(x.transpose(0, 1)).relu()
        x = self.two(x.flatten(0, 1)).relu().unflatten(0, x.shape[:2]) if self.flat else self.two(x).relu()
        return self.head(x.mean(0))


@pytest.mark.parametrize("criterion", ["fisher", "taylor-activation", "activation-norm", "pfa"])
@pytest.mark.parametrize("positions", [3, 4])
@pytest.mark.parametrize("flat", [False, True])
def test_examples_are_told_apart_wherever_they_lie(criterion, positions, flat):
    net, x = fill(Sequences(flat)).double(), images(4, positions, 5).double()
    y = torch.arange(4) % 3
    graph = secateur.trace(net, x[:1])
    single = [(x[i : i + 1], y[i : i + 1]) for i in range(4)]
    ways = [[(x, y)], single, [(x[:3], y[:3]), (x[3:], y[3:])], [(x[:1], y[:1]), (x[1:], y[1:])]]
    each = [secateur.score(graph, criterion, batches=b) for b in ways]
    for other in each[1:]:
        for name, scores in each[0].items():
            assert_close(other[name], scores)


class Positions(nn.Module):
    """A layer that reads positions, of no example: the same for all of a batch."""

    def __init__(self):
        super().__init__()
        self.places, self.one, self.two = nn.Parameter(torch.zeros(4, 5)), nn.Linear(5, 6), nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head((x + self.two(self.one(self.places).relu())).relu().mean(1))


def test_examples_that_cannot_be_told_apart_are_refused_by_name():
    net, x = fill(Positions()).double(), images(4, 4, 5).double()
    graph, batches = secateur.trace(net, x), [(x, torch.arange(4) % 3)]
    for criterion in ("fisher", "taylor-activation", "pfa", "activation-norm"):
        with pytest.raises(BadModel, match=r"cannot be told apart where .*(reads it: no axis|is read; use)"):
            secateur.score(graph, criterion, batches=batches)
    assert (secateur.score(graph, "taylor", batches=batches)["one"] > 0).any()


class Pooled(nn.Module):
    """Two readers of one tensor: one of its positions, one of their mean."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.head, self.other = nn.Linear(6, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(x.mean((2, 3))) + self.other(self.conv(x).relu().mean((2, 3)))


def test_a_layer_that_reads_a_mean_weighs_as_one_that_reads_all_positions():
    """As the paper has it: |mean over positions of z dC/dz| of the one tensor that both read."""
    net, x, y = fill(Pooled()).double(), images(4, 1, 5, 5).double(), torch.arange(4) % 3
    z = net.stem(x).relu().detach().requires_grad_()
    F.cross_entropy(
        net.head(z.mean((2, 3))) + net.other(net.conv(z).relu().mean((2, 3))), y, reduction="sum"
    ).backward()
    theta = (z * z.grad).mean((2, 3)).abs().mean(0).detach()
    assert_close(
        secateur.score(secateur.trace(net, x), "taylor-activation", batches=[(x, y)])["stem"], theta / theta.norm()
    )


@pytest.mark.parametrize("sizes", [(8, 1), (4, 3, 2)])
def test_snip_of_unequal_batches_is_that_of_one_batch(sizes):
    net = fill(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))).double()
    x, y = images(9, 4).double(), torch.arange(9) % 3
    graph = secateur.trace(net, x)
    parts = list(zip(x.split(sizes), y.split(sizes), strict=True))
    whole, split = (secateur.score(graph, "snip", batches=b)["0"] for b in ([(x, y)], parts))
    assert_close(split, whole)
    options = {"sparsity": 0.5, "criterion": "snip"}
    whole, split = (secateur.sparsify(net, x, batches=b, **options).model.state_dict() for b in ([(x, y)], parts))
    assert all(torch.equal(whole[n], split[n]) for n in whole)


class Over(nn.Module):
    """What one layer reads is written over before the backward pass."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.add = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        h = self.stem(x)
        y = self.conv(h)
        h += self.add(x)
        return self.head(y + h)


def test_what_is_written_over_is_refused_by_name():
    net, x = fill(Over()).double(), images(4, 4).double()
    graph = secateur.trace(net, x)
    for criterion in ("taylor", "fisher"):
        with pytest.raises(BadModel, match="what 'conv' reads is written over later"):
            secateur.score(graph, criterion, batches=[(x, torch.arange(4) % 3)])


BATCH = (images(4, 4), torch.arange(4) % 3)
MISTAKES = {
    "a loss for each example": ([BATCH], lambda y, t: F.cross_entropy(y, t, reduction="none"), BadOption, r"\(4,\)"),
    "NaN for each example": ([BATCH], lambda y, t: y[:, 0] * torch.nan, BadOption, r"\(4,\)"),
    "a float": ([BATCH], lambda y, t: float(y.sum()), BadOption, "scalar tensor"),
    "three of a batch": ([(*BATCH, 1)], None, BadExample, "batch 0 is a tuple of 3"),
    "inputs alone": ([BATCH[0]], None, BadExample, "batch 0 is a Tensor; give"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    batches, loss, error, said = MISTAKES[name]
    graph = secateur.trace(fill(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))), BATCH[0])
    with pytest.raises(error, match=said):
        secateur.score(graph, "taylor", batches=batches, loss=loss)


def test_the_number_of_examples_is_not_that_of_positions_given_once():
    """Positions of size (1, T) before tokens of size (B, T)."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.place, self.one, self.head = nn.Embedding(9, 5), nn.Linear(5, 6), nn.Linear(6, 3)

        def forward(self, positions, x):
            return self.head(self.one(self.place(positions) + x).relu().mean(1))

    net, x, positions = fill(Net()).double(), images(4, 7, 5).double(), torch.arange(7)[None]
    graph = secateur.trace(net, {"positions": positions, "x": x})
    found = collect(graph, {"gradients"}, batches=[({"positions": positions, "x": x}, torch.arange(4) % 3)])
    assert int(found.of("gradients", "one")["examples"]) == 4
