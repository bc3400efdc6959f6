"""The models that the engine is timed on: torchvision's, convolution chains, decoders like OPT, Llama-7B's shape."""

import torch
import torch.nn.functional as F
from torch import nn


def subject(spec, size=224):
    """(model in eval mode, example) of `resnet50` or another torchvision name, `chain:80`, `decoder:24`, `llama-7b`."""
    kind, _, depth = spec.partition(":")
    if kind == "chain":
        return chain(int(depth)).eval(), torch.randn(1, 3, 8, 8)
    if kind == "decoder":
        return Decoder(int(depth)).eval(), torch.randint(211, (1, 16))
    if spec == "llama-7b":
        return llama(32, 4096, 11008, 32, 8, 32000, "meta"), torch.zeros(1, 16, dtype=torch.long, device="meta")
    return getattr(torchvision().models, spec)(weights=None).eval(), torch.randn(1, 3, size, size)


def torchvision():
    """The library; beside a CPU torch its compiled operators may not load, and its models need only the schemas."""
    try:
        import torchvision as library
    except RuntimeError:
        schemas = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torchvision.schemas = schemas  # they live as long as this object
        import torchvision as library
    return library


def chain(convs, width=16):
    """`convs` times convolution, batch norm and ReLU, then a classifier."""
    layers = []
    for i in range(convs):
        layers += [nn.Conv2d(width if i else 3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Layer(nn.Module):
    """Attention and a ReLU network, each behind its norm, as in OPT."""

    def __init__(self, hidden, ffn, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.q, self.k, self.v, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(hidden, ffn), nn.Linear(ffn, hidden)

    def forward(self, x):
        """(batch, length, hidden) to the same."""
        batch, length, hidden = x.shape
        y = self.norm1(x)
        q, k, v = (
            project(y).view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, hidden))
        return x + self.fc2(F.relu(self.fc1(self.norm2(x))))


class Decoder(nn.Module):
    """Learned positions, `layers` layers, a head tied to the embedding."""

    def __init__(self, layers, hidden=64, ffn=128, heads=4, vocabulary=211, longest=32):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, hidden), nn.Embedding(longest, hidden)
        self.layers = nn.ModuleList(Layer(hidden, ffn, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(hidden), nn.Linear(hidden, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        """(batch, length) to (batch, length, vocabulary)."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def llama(layers, hidden, ffn, heads, kv_heads, vocabulary, device):
    """A Llama of transformers with random weights; on the meta device it has none."""
    torchvision()  # transformers imports it
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        use_cache=False,
    )
    with torch.device(device):
        return LlamaForCausalLM(config).eval()
