"""Random networks: a program of plain data that is drawn, printed and replayed, and the module that runs it.

A program is {"inputs": ((tag, shape), ...), "ops": ((kind, inputs, options), ...), "outputs": (value, ...)}; values are
numbered inputs first, then what each op gives. "again" runs an earlier op's module once more; "tied" is an op like an
earlier one with the same weights.
"""

from __future__ import annotations

import random
from typing import Any

import fuzz_attention  # noqa: F401  its ops register themselves
import fuzz_image_ops  # noqa: F401
import fuzz_more_ops  # noqa: F401
import fuzz_passages  # noqa: F401
import fuzz_piece_ops  # noqa: F401
import fuzz_shared_ops  # noqa: F401
import fuzz_token_ops  # noqa: F401
import torch
from fuzz_ops import OPS, WIDTHS, Pick, Value
from hypothesis import strategies as st
from torch import Tensor, nn

from nets import fill

Program = dict[str, Any]
LARGEST = 36  # channels; beyond this only ops that narrow
MANY = {"add": 3, "mul": 2, "cat": 4, "stack": 3, "cross": 2}
OFTEN = {
    "I": ("conv", "conv", "bn", "act"),
    "T": ("linear", "linear", "ln", "act", "attention", "fused"),
    "V": ("linear",),
}
TIEABLE = {"conv": "conv.weight", "linear": "layer.weight", "conv1d": "conv.weight"}
FIRST = {"I": "conv", "T": "linear", "V": "linear", "N": "embed"}


def build(kind: str, values: list[Value], options: dict[str, Any]) -> nn.Module:
    return OPS[kind](values, **options)


def tensors_for(value: Value, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if value.tag == "N":
        return torch.randint(0, 11, value.shape, generator=generator)
    return torch.randn(value.shape, generator=generator)


class Draft:
    """Modules and values of a program so far; each op is run when it is added, which gives the shapes."""

    def __init__(self, inputs: tuple[tuple[str, tuple[int, ...]], ...]) -> None:
        self.inputs = tuple((tag, tuple(shape)) for tag, shape in inputs)
        self.values = [Value(tag, shape) for tag, shape in self.inputs]
        self.tensors = [tensors_for(v, seed=1) for v in self.values]
        self.modules: list[nn.Module] = []
        self.calls: list[tuple[int, tuple[int, ...]]] = []
        self.steps: list[tuple[str, tuple[int, ...], dict[str, Any]]] = []

    def add(self, kind: str, inputs: tuple[int, ...], options: dict[str, Any]) -> list[int]:
        """The numbers of the new values."""
        read = [self.values[i] for i in inputs]
        if kind == "again":
            module, index = self._op(options["of"]), self.calls[options["of"]][0]
        else:
            module, index = self._made(kind, inputs, read, options), len(self.modules)
            self.modules.append(module)
        with torch.no_grad():
            result = module.eval()(*(self.tensors[i] for i in inputs))
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        tag = type(module).gives or read[0].tag
        self.calls.append((index, tuple(inputs)))
        self.steps.append((kind, tuple(inputs), options))
        self.tensors += results
        self.values += [Value(tag, tuple(t.shape)) for t in results]
        return list(range(len(self.values) - len(results), len(self.values)))

    def _op(self, step: int) -> nn.Module:
        return self.modules[self.calls[step][0]]

    def _made(self, kind: str, inputs: Any, read: list[Value], options: dict[str, Any]) -> nn.Module:
        if kind == "tied":
            first, _, same = self.steps[options["of"]]
            module, name = build(first, read, same), TIEABLE[first]
            holder = name.rpartition(".")[0]
            module.get_submodule(holder).weight = self._op(options["of"]).get_parameter(name)
            return module
        module = build(kind, read, options)
        if kind == "tied_head":
            module.linear.weight = next(m for m in self.modules if hasattr(m, "table")).table.weight
        return module


class Net(nn.Module):
    """Runs a program."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        draft = Draft(program["inputs"])
        for kind, inputs, options in program["ops"]:
            draft.add(kind, inputs, options)
        self.ops = nn.ModuleList(draft.modules)
        self.calls = draft.calls
        self.outputs = program["outputs"]

    def forward(self, *xs: Tensor) -> Any:
        values = list(xs)
        for index, inputs in self.calls:
            result = self.ops[index](*(values[i] for i in inputs))
            values += list(result) if isinstance(result, (tuple, list)) else [result]
        return values[self.outputs[0]] if len(self.outputs) == 1 else tuple(values[i] for i in self.outputs)


def network(program: Program, seed: int = 0) -> nn.Module:
    """The network of a program with filled weights, in training mode; the RNG is left alone."""
    with torch.random.fork_rng(devices=[]):
        return fill(Net(program), seed).train()


def example(program: Program) -> tuple[Tensor, ...]:
    """Inputs with fixed noise."""
    return tuple(tensors_for(Value(tag, shape), seed=i + 1) for i, (tag, shape) in enumerate(program["inputs"]))


def grow(pick: Pick) -> Program:
    """A program drawn choice by choice; the first of the things to pick from is the simplest."""
    draft = Draft(_inputs(pick))
    for i, value in enumerate(draft.values.copy()):  # a layer writes all that comes after, else nothing is prunable
        draft.add(FIRST[value.tag], (i,), OPS[FIRST[value.tag]].choose(pick, value, WIDTHS) or {})
    for _ in range(pick(range(1, 11))):
        _extend(pick, draft)
    outputs = _outputs(pick, draft)
    return {"inputs": draft.inputs, "ops": tuple(draft.steps), "outputs": outputs}


def _inputs(pick: Pick) -> tuple[tuple[str, tuple[int, ...]], ...]:
    def one() -> tuple[str, tuple[int, ...]]:
        tag = pick("IITTNV")
        if tag == "I":
            return "I", (2, pick([3, 1, 4]), pick([4, 6]), pick([4, 5, 6, 8]))
        if tag == "T":
            return "T", (2, pick([3, 4, 5]), pick(WIDTHS))
        return (tag, (2, pick([3, 4]))) if tag == "N" else ("V", (2, pick([5, 6, 8])))

    return tuple(one() for _ in range(pick([1, 1, 1, 1, 2])))


def _extend(pick: Pick, draft: Draft) -> None:
    """One more op on one of the latest values, or none where what was picked does not fit."""
    free = [i for i in range(len(draft.inputs), len(draft.values)) if draft.values[i].tag != "O"][::-1]
    source = pick([free[0], free[0], *free[:5]])
    value = draft.values[source]
    kinds = [k for k, cls in OPS.items() if value.tag in cls.takes and k not in ("head", "tied_head", "embed")]
    kind = pick([*OFTEN.get(value.tag, ()), "residual", "again", "tied", *kinds])
    if kind == "residual":
        _residual(pick, draft, source)
    elif kind in ("again", "tied"):
        _repeat(pick, draft, kind, source)
    elif kind in MANY:
        _join(pick, draft, kind, source, free)
    else:
        _add(pick, draft, kind, source)


def _add(pick: Pick, draft: Draft, kind: str, source: int, widths: Any = ()) -> list[int]:
    value = draft.values[source]
    earlier = [v.width for v in draft.values if v.tag == value.tag and v.width <= LARGEST]
    options = OPS[kind].choose(pick, value, widths or [*WIDTHS, *earlier])
    if options is None or (value.width > LARGEST and kind in ("pad", "stack", "cat", "pixel_unshuffle")):
        return []
    return draft.add(kind, (source,), options)


def _residual(pick: Pick, draft: Draft, source: int) -> None:
    """A branch of one or two ops that comes back to the width it started from, and the sum."""
    value = draft.values[source]
    layer = {"I": "conv", "T": "linear", "V": "linear", "H": "linear"}[value.tag]
    last = source
    for widths in pick([[(value.width,)], [WIDTHS, (value.width,)]]):
        made = _add(pick, draft, layer, last, widths)
        last = _add(pick, draft, pick(["act", "bn"] if value.tag in "IV" else ["act", "ln"]), made[0])[0]
    if draft.values[last].shape == value.shape:
        draft.add("add", (last, source), {})


def _repeat(pick: Pick, draft: Draft, kind: str, source: int) -> None:
    """An earlier op once more, on a value of the shape that it read."""
    fits = [
        i
        for i, (name, inputs, _) in enumerate(draft.steps)
        if len(inputs) == 1
        and name not in ("again", "tied", "tied_head", "head")
        and draft.values[inputs[0]] == draft.values[source]
        and (kind == "again" or _has_weight(draft, i))
    ]
    if fits:
        draft.add(kind, (source,), {"of": pick(fits[::-1])})


def _has_weight(draft: Draft, step: int) -> bool:
    names = dict(draft._op(step).named_parameters())
    return TIEABLE.get(draft.steps[step][0]) in names


def _join(pick: Pick, draft: Draft, kind: str, source: int, free: list[int]) -> None:
    """Several values of equal shape, or (joined end to end) of equal shape but for the channels."""
    value = draft.values[source]

    def fits(other: Value) -> bool:
        if other.tag != value.tag or len(other.shape) != len(value.shape):
            return False
        if kind == "cross":
            return True
        pairs = enumerate(zip(other.shape, value.shape, strict=True))
        return all(a == b or (kind == "cat" and d == value.axis) for d, (a, b) in pairs)

    others = [i for i in free if fits(draft.values[i]) and i != source] or [source]
    chosen = [source, *(pick(others) for _ in range(pick(range(1, MANY[kind]))))]
    if kind == "cat" and sum(draft.values[i].width for i in chosen) > LARGEST:
        return
    draft.add(kind, tuple(chosen), OPS[kind].choose(pick, value, WIDTHS) or {})


def _outputs(pick: Pick, draft: Draft) -> tuple[int, ...]:
    """A head on the last value; each other value that nothing read has a head, is given as it is, or is dropped."""
    read = {i for _, inputs, _ in draft.steps for i in inputs}
    loose = [i for i in range(len(draft.inputs), len(draft.values)) if i not in read][::-1]
    outputs: list[int] = []
    for n, i in enumerate(loose):
        what = pick(["head"] * 12 + (["raw", "drop", "drop"] if n else ["raw"]))
        value = draft.values[i]
        tables = [o["width"] for k, _, o in draft.steps if k == "embed"]
        if what == "head" and value.tag == "T" and tables[:1] == [value.width] and pick([True, False]):
            outputs += draft.add("tied_head", (i,), {})
        elif what == "head":
            outputs += draft.add("head", (i,), OPS["head"].choose(pick, value, WIDTHS) or {})
        elif what == "raw":
            outputs.append(i)
    return tuple(outputs)


@st.composite
def programs(draw: Any) -> Program:
    """Programs for hypothesis, which prefers what comes first; a number turns the choices, so that all ops are met."""
    turn = random.Random(number) if (number := draw(st.integers(0, 2**32))) else None

    def pick(options: Any) -> Any:
        index = draw(st.integers(0, len(options) - 1))
        return options[(index + (turn.randrange(len(options)) if turn else 0)) % len(options)]

    return grow(pick)


def sample(seed: int) -> Program:
    """The program of a seed, without hypothesis."""
    return grow(random.Random(seed).choice)
