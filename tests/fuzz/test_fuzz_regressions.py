"""Smallest programs on which random networks once found the engine wrong, one each, and what went wrong."""

import pytest
from fuzz_laws import Coverage, check

V = (("V", (2, 4)),)
T = (("T", (2, 3, 6)),)
LAYER, HEAD = ("linear", (0,), {"out": 4}), {"each": False}


def program(inputs, *ops):
    """A chain: the output is what the last op gives."""
    return {"inputs": inputs, "ops": ops, "outputs": (len(inputs) + len(ops) - 1,)}


CASES = {
    # Tracing never ended: `split(size)` asks that two unequal pieces are of one int.
    "unequal-split": {
        "inputs": V,
        "ops": (LAYER, ("split", (1,), {"first": 3, "how": "equal"}), ("head", (2,), {}), ("head", (3,), {})),
        "outputs": (4, 5),
    },
    # `normalized_shape` of nn.RMSNorm stayed as it was.
    "library-rms": program(V, LAYER, ("rms", (1,), {"style": "library"}), ("head", (2,), {})),
    # Masked execution in float64 ran prelu on a float64 input and a float32 weight.
    "prelu": program(V, LAYER, ("prelu", (1,), {"each": False}), ("head", (2,), {})),
    # Whether view(b, t, heads, c // heads) can follow was decided by chance: three random cuts of two heads may all
    # keep both or none, and then tell nothing.
    "heads-of-two": program(
        T,
        (
            "attention",
            (0,),
            {
                "heads": 2,
                "kv": 2,
                "dim": 2,
                "view": "last",
                "how": "scaled",
                "join": "minus",
                "norm": "",
                "bias": True,
            },
        ),
        ("head", (1,), HEAD),
    ),
    # Fast path of nn.MultiheadAttention: the embedding's width was taken for free, `embed_dim` stayed.
    "mha": program(T, LAYER, ("mha", (1,), {"heads": 4, "weights": False}), ("head", (2,), HEAD)),
    # The same of a slice behind padding: its first graph lets the units go, the graph of the cut model freezes them.
    "slice-behind-padding": program(
        (("N", (2, 4)),),
        ("embed", (0,), {"width": 4}),
        ("pad", (1,), {"before": 2, "after": 0, "attributes": True}),
        ("slice", (2,), {"start": 4, "length": 2, "how": "attributes"}),
        ("conv1d", (3,), {"out": 12, "kernel": 1, "bias": False}),
        ("head", (4,), {"each": True}),
    ),
    # The mean, or the largest, of a slice of which no channel is left: units inside the slice were units of the whole.
    "reduced-slice": {
        "inputs": V,
        "ops": (
            LAYER,
            ("slice", (1,), {"start": 1, "length": 2, "how": "attributes"}),
            ("mean", (2,), {"what": "amax", "use": "alone"}),
            ("head", (1,), {}),
        ),
        "outputs": (3, 4),
    },
    # Attributes that a bound is computed from did not follow, or not down to an empty slice.
    "narrow": {
        "inputs": V,
        "ops": (
            LAYER,
            ("slice", (1,), {"start": 1, "length": 3, "how": "narrow"}),
            ("slice", (1,), {"start": 2, "length": 1, "how": "narrow"}),
            ("head", (1,), {}),
        ),
        "outputs": (4,),
    },
    # A shuffle whose last view states the size of what it shuffled: only the numbers of channels must agree.
    "shuffle": program(
        (("I", (2, 3, 4, 4)),),
        ("conv", (0,), {"out": 8}),
        ("shuffle", (1,), {"groups": 2, "how": "computed"}),
        ("head", (2,), {}),
    ),
    # Only their law was at fault: an output that hardly moves is held to a millionth of its size.
    "still-output": program(
        (("I", (2, 4, 6, 5)),),
        ("conv3d", (0,), {"out": 1, "depth": 1}),
        ("to_vector", (1,), {"how": "flatten"}),
        ("swiglu", (2,), {"inner": 1, "packed": False}),
    ),
    # Tokens that are a transposed view: linear took another path when masked than when traced.
    "strided-linear": program(T, ("mixer", (0,), {"inner": 4}), ("head", (1,), HEAD)),
    # What functions that are seen whole give: its memory shrinks with its labels.
    "memory-recurrent": program(
        (("N", (2, 3)),),
        ("embed", (0,), {"width": 8}),
        ("linear", (1,), {"out": 3, "bias": True, "how": "raw"}),
        ("linear", (2,), {"out": 4, "bias": False, "how": "layer"}),
        ("cls", (3,), {}),
        ("rnn", (4,), {"cell": "LSTM", "hidden": 6, "both": False, "bias": True, "last": True}),
        ("head", (5,), {"each": False}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_once_failed_holds(name, tmp_path):
    check(CASES[name], tmp_path, Coverage(), seconds=4.0)
