"""What one trace writes down: plain records, read by groups, cost and surgery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .example import Place
from .labels import Axis, Freeze
from .provenance import Attribute, Source, evaluate

# What an axis does; bits, since one may do several.
OUT, IN, AFFINE = 1, 2, 4  # of a parameter: written, read, scaled element by element
HEAD = 8  # products of activations are taken for each of its indices alone
EQUAL = 16  # the same number of these goes in each group of a grouped layer
STREAM = 32  # added up over several layers
BLOCK = 64  # each of its indices is a whole group of a grouped layer
EXPERT = 128  # numbers that the forward computes choose among its indices
STACKED = 256  # each of its indices holds a matrix of weights of its own
WEIGHED = 512  # a softmax weighs its indices against each other, or numbers read their weights


def is_expert(bits: int) -> bool:
    """Whether indices of these roles are experts: chosen by number, or whole layers that a router weighs."""
    return bool(bits & EXPERT or (bits & STACKED and bits & WEIGHED))


def are_experts(bits: NDArray[np.int16]) -> NDArray[np.bool_]:
    """`is_expert` of each."""
    found: NDArray[np.bool_] = ((bits & EXPERT) > 0) | (((bits & STACKED) > 0) & ((bits & WEIGHED) > 0))
    return found


@dataclass(frozen=True)
class Contraction:
    """One multiply-and-sum op: the n-th in order of execution, reading `axis` of its operand `argument`."""

    op: str
    path: str
    argument: int  # position of the activation among the op's arguments
    axis: int
    labels: Axis  # of that axis
    weight: str | None = None  # the parameter on the other side, if it is one
    geometry: Geometry | None = None  # of a plain convolution
    number: int = 0  # n


@dataclass(frozen=True)
class Reduction:
    """One op that sums, averages or ranks along axes, the n-th in order of execution.

    Where such an axis is cut, the reference is the same op over the kept indices.
    """

    op: str
    path: str
    inputs: tuple[tuple[Axis, ...] | None, ...]  # labels of each axis of each positional argument that is a tensor
    outputs: tuple[tuple[Axis, ...], ...]
    groups: Axis | None = None  # of a group norm
    over: tuple[Axis, ...] = ()  # the axes that it reduces
    numbers: tuple[Axis | None, ...] = ()  # for each output that holds numbers of indices, the axis of those
    least: int = 0  # of the first axis of `over`, so many indices are taken


@dataclass(frozen=True)
class Whole:
    """One function that hides products inside, the n-th in order, and what it reads.

    That is (place among its arguments, axis, labels).
    """

    name: str
    path: str
    reads: tuple[tuple[tuple[int, ...], int, Axis], ...]


@dataclass(frozen=True)
class Block:
    """One call of a module that is checked alone: labels of the tensors that it takes and gives."""

    path: str
    inputs: dict[Place, tuple[Axis, ...]]  # by place in (args, kwargs)
    outputs: tuple[tuple[Axis, ...], ...]
    numbers: dict[Place, Axis] = field(default_factory=dict)  # inputs that hold numbers of indices, and their axes
    numbered: tuple[Axis | None, ...] = ()  # of each output, if it does


@dataclass(frozen=True)
class Residual:
    """A module that gives its input back when the branches that it adds are zero."""

    path: str
    joins: tuple[tuple[int, int], ...]  # (number of a call that adds, which of its operands is a branch)
    rest: int  # how many values, all None, it gives beside its result in a tuple; -1: a tensor alone
    alone: bool  # whether it is called with its input and nothing else
    axis: Axis = field(default_factory=lambda: np.zeros(1, dtype=np.int64))  # (1,) the label that says it is there
    given: tuple[tuple[Axis, ...], ...] = ()  # labels of each axis of its result, call by call


@dataclass(frozen=True)
class Geometry:
    """How a convolution without groups walks over space; one number for each spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Convolution:
    """What a convolution is told beside its channels: enough to run one like it."""

    batch: int
    size: tuple[int, ...]  # of its input, in space
    kernel: tuple[int, ...]
    walk: Geometry
    groups: int
    transposed: bool


@dataclass(frozen=True)
class Term:
    """`coefficient * prod(kept(axis) for axis in axes)` multiply-accumulates, done at module `path`."""

    kind: str  # "conv", "linear", "matmul"
    path: str
    coefficient: int
    axes: tuple[Axis, ...]
    conv: Convolution | None = None


@dataclass(frozen=True)
class Storage:
    """Memory that an op makes for what it gives, and that is of use up to the last op that reads it."""

    axes: tuple[Axis, ...]
    item: int  # bytes of an element
    born: int  # number of the op
    last: int


@dataclass(frozen=True)
class Need:
    """A Python int that must equal the number of kept indices of `axis`."""

    source: Source
    axis: Axis
    path: str
    use: str


@dataclass(frozen=True)
class Owner:
    """What an attribute counts: it is `kept(axis) * times // over`, or whatever makes `need` hold."""

    axis: Axis
    times: int = 1
    over: int = 1
    need: Need | None = None

    def counted(self, n: int) -> int:
        """The attribute for so many indices."""
        return n * self.times // self.over

    def value(self, attribute: Attribute, values: dict[Attribute, int], kept: Callable[[Axis], int]) -> int:
        """What the attribute must be when `kept(axis)` indices are left; `values` holds the other attributes."""
        if self.need is None:
            whole = kept(self.axis) == self.axis.size
            return values[attribute] if whole else self.counted(kept(self.axis))
        wanted, source = kept(self.axis), self.need.source
        tried = range(values[attribute], -1, -1)
        fit = (v for v in tried if evaluate(source, values | {attribute: v}, kept) == wanted)
        return next(fit, values[attribute])


def restated(
    owners: dict[Attribute, Owner], attributes: dict[Attribute, int], kept: Callable[[Axis], int]
) -> dict[Attribute, int]:
    """All attributes after a cut; those found by what must hold come after those that are counted."""
    values = dict(attributes)
    for found in (False, True):
        for attribute, owner in owners.items():
            if (owner.need is not None) == found:
                values[attribute] = owner.value(attribute, values, kept)
    return values


@dataclass(frozen=True)
class Norm:
    """A batch norm: its parameters and buffers by name, where it has them."""

    path: str
    weight: str | None
    bias: str | None
    mean: str | None


@dataclass(frozen=True)
class Writer:
    """A layer that creates an axis: its parameters by name, and the norm that reads it if nothing else does."""

    path: str
    kind: str  # "conv" or "linear"
    weight: str | None  # None: computed from several parameters
    computed: bool  # from that parameter, which is then not the weight itself
    weight_axis: int  # the axis of the weight that is written; -1: several seen as one
    bias: str | None
    axis: Axis
    resolution: tuple[int, ...] = ()  # spatial size of what it writes
    kernel: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False
    norm: Norm | None = None
    viewed: bool = False  # the layer multiplies with a part of the weight or bias, or with a view of another shape


@dataclass(frozen=True)
class Trace:
    """One forward, as labels."""

    classes: NDArray[np.int64]  # (labels,) class of each label
    frozen: dict[int, Freeze]  # class -> why it must stay
    tensors: dict[str, tuple[Axis, ...]]  # parameter or buffer name -> labels of each of its axes
    roles: NDArray[np.int16]  # (labels,) OR of the bits above
    contractions: tuple[Contraction, ...] = ()
    reductions: tuple[Reduction, ...] = ()
    wholes: tuple[Whole, ...] = ()
    blocks: tuple[Block, ...] = ()
    residuals: tuple[Residual, ...] = ()
    terms: tuple[Term, ...] = ()
    storages: tuple[Storage, ...] = ()  # of activations, inputs among them
    needs: tuple[Need, ...] = ()
    writers: tuple[Writer, ...] = ()
    attributes: dict[Attribute, int] = field(default_factory=dict)
    owners: dict[Attribute, Owner] = field(default_factory=dict)
    unused: tuple[str, ...] = ()  # parameters that the forward never read
    experts: bool = False  # whether experts went before all else where only one side of an axis could be cut
