"""Weights as the matrices that are multiplied with: which axes are outputs, and which are inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

from torch import Tensor, nn

from ..errors import BadModel, UnknownName
from ..graph.record import Writer
from ..groups.graph import Graph


@dataclass(frozen=True)
class Layout:
    """How the weight `name` is laid out as a matrix: (outputs, inputs of an output)."""

    name: str
    shape: tuple[int, ...]
    view: tuple[int, ...]  # the shape with axes taken apart
    rows: tuple[int, ...]  # axes of the view that number outputs
    inputs: tuple[int, ...]  # axes of the view that are summed over, in the order of the inputs

    @property
    def size(self) -> tuple[int, int]:
        """(rows, inputs of each)."""
        return prod(self.view[a] for a in self.rows), prod(self.view[a] for a in self.inputs)

    def matrix(self, tensor: Tensor) -> Tensor:
        """(rows, inputs) of a tensor of the weight's shape."""
        return tensor.reshape(self.view).permute(*self.rows, *self.inputs).reshape(self.size)

    def tensor(self, matrix: Tensor) -> Tensor:
        """What `matrix` gives the matrix of."""
        order = (*self.rows, *self.inputs)
        back = [order.index(a) for a in range(len(order))]
        return matrix.reshape([self.view[a] for a in order]).permute(back).reshape(self.shape)


@dataclass(frozen=True)
class Weights:
    """The weights that single-weight pruning may touch, in the order they run, and the parameters it leaves."""

    layouts: dict[str, Layout | str]  # by name; a reason where a weight is no one matrix
    left: dict[str, str]  # parameter -> why it stays dense


def find_weights(graph: Graph, include: Iterable[str], exclude: Iterable[str]) -> Weights:
    """Weights of linear layers and convolutions, each once however often it is used, whose names are included.

    Patterns are names or globs of parameters or of the modules that hold them. Raises `UnknownName` for a pattern that
    matches no parameter or module, `BadModel` where nothing is left.
    """
    wanted, unwanted = _patterns(include), _patterns(exclude)
    names = _names(graph.model)
    known = [part for aliases in names.values() for part in aliases]
    for pattern in (*wanted, *unwanted):
        if not any(fnmatchcase(n, pattern) for n in known):
            raise UnknownName("module or parameter", pattern, sorted({n for n in known if n}))
    layouts, left = _found(graph)
    for name in list(layouts):
        chosen = next((p for p in unwanted if _matches(names[name], p)), None)
        if chosen is not None or not any(_matches(names[name], p) for p in wanted):
            left[name] = f"exclude={chosen!r}" if chosen is not None else "it is not included"
            del layouts[name]
    if not layouts:
        told = "; ".join(f"{n}: {why}" for n, why in list(left.items())[:6]) or "it has no parameters"
        raise BadModel(f"no weight of the model is left to prune: {told}; widen include= or narrow exclude=")
    return Weights(layouts, left)


def _patterns(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _names(model: nn.Module) -> dict[str, list[str]]:
    """Parameter -> all names of it, and of the modules that hold it."""
    canonical = {id(p): n for n, p in model.named_parameters()}
    names: dict[str, list[str]] = {n: [] for n in canonical.values()}
    for alias, p in model.named_parameters(remove_duplicate=False):
        names[canonical[id(p)]] += [".".join(alias.split(".")[:i]) for i in range(1, alias.count(".") + 2)]
    return names


def _matches(names: Iterable[str], pattern: str) -> bool:
    return any(fnmatchcase(n, pattern) for n in names)


def _found(graph: Graph) -> tuple[dict[str, Layout | str], dict[str, str]]:
    parameters = dict(graph.model.named_parameters())
    layouts: dict[str, Layout | str] = {}
    left: dict[str, str] = {}
    for writer in graph.trace.writers:
        name = writer.weight
        if name is None or name not in parameters or writer.kind == "embedding":
            continue
        if writer.computed:
            left[name] = f"the weight of {writer.path!r} is computed from it"
            continue
        if not parameters[name].is_floating_point():
            left[name] = f"it holds {parameters[name].dtype}"
            continue
        layout = _layout(name, tuple(parameters[name].shape), writer)
        if layouts.setdefault(name, layout) != layout:
            layouts[name] = "it is used in products along different axes"
    for name in layouts.keys() & left.keys():
        del layouts[name]
    others = {n: "no linear layer or convolution multiplies with it" for n in parameters if n not in layouts}
    return layouts, others | left


def _layout(name: str, shape: tuple[int, ...], writer: Writer) -> Layout | str:
    axes = tuple(range(len(shape)))
    if writer.viewed:
        return f"{writer.path!r} multiplies with a part or a view of it of another shape"
    if writer.kind == "conv" and writer.transposed:  # (I, O / groups, *kernel), of which a group reads I / groups
        view = (writer.groups, shape[0] // writer.groups, *shape[1:])
        return Layout(name, shape, view, (0, 2), (1, *range(3, len(view))))
    if writer.kind == "conv":
        return Layout(name, shape, shape, (0,), axes[1:])
    if len(axes) < 2 or writer.weight_axis < len(axes) - 2 or shape[writer.weight_axis] != writer.axis.size:
        return f"{writer.path!r} multiplies with a view of it of another shape"
    inputs = next(a for a in axes[-2:] if a != writer.weight_axis)
    return Layout(name, shape, shape, tuple(a for a in axes if a != inputs), (inputs,))
