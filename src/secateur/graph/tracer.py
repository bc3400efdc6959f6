"""The tracer: what rules see. Holds the labels of every tensor alive in the forward and writes the records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from .example import Place, map_places
from .experts import stated, unread
from .labels import FROZEN, Axis, Labels, frozen_axis, is_live
from .lives import Lives
from .numbers import Numbers
from .provenance import Attribute, Size, Source, Traced, Watch, attributes_in, axes_in, source_of
from .record import IN, Block, Contraction, Convolution, Geometry, Need, Norm, Reduction, Term, Trace, Whole, Writer
from .residual import Carriers
from .settle import settle
from .views import is_whole, place

Ran = tuple[str, tuple[Any, ...], list[Tensor]]  # name, arguments and outputs of an op
KEEPS_WEIGHTS = {"lstm", "gru", "rnn_tanh", "rnn_relu"}  # their modules hold a list of weights, which a cut renews


class Tracer(Watch):
    """Collects labels and records while a model runs on fake tensors."""

    def __init__(self, experts: bool = False) -> None:
        self.experts = experts  # whether they go before all else
        self.labels = Labels()
        self.carriers = Carriers()
        self.lives = Lives()
        self.numbers = Numbers()
        self.path = ""  # module being called
        self.broke_at = ""  # the innermost module whose forward raised
        self.call: tuple[str, tuple[Any, ...], dict[str, Any]] = ("", (), {})  # as the author wrote it
        self.sliced = 0  # how many of its slices have run
        self.used: dict[int, Any] = {}  # ints among its arguments that a rule has read, by id
        self.names: dict[int, str] = {}  # id of a parameter or buffer -> name
        self.tensors: dict[str, tuple[Axis, ...]] = {}
        self._axes: dict[int, tuple[Axis, ...]] = {}
        self._alive: list[Tensor] = []  # ids are only unique while tensors live
        self._static: set[int] = set()  # tensors computed from parameters alone
        self._marks: list[tuple[Axis, int]] = []
        self._readers: dict[int, list[str]] = {}  # tensor id -> ops that read it
        self._norms: dict[int, Norm] = {}  # tensor id -> the batch norm that reads it
        self._read: set[str] = set()
        self._outside: dict[int, str] = {}  # parameters as the model itself holds them -> name
        self._chosen: dict[int, str] = {}  # tensor id -> the parameter that it is a choice from
        self._pinned: dict[Attribute, str] = {}
        self.contractions: list[Contraction] = []
        self.reductions: list[Reduction] = []
        self.wholes: list[Whole] = []
        self.blocks: list[Block] = []
        self.terms: list[Term] = []
        self.needs: list[Need] = []
        self._writers: list[tuple[int, dict[str, Any]]] = []

    # --- tensors -----------------------------------------------------------------------------------------------
    def adopt(self, tensor: Tensor, name: str, original: Tensor | None = None) -> None:
        """Enter a parameter or buffer: every index of every axis gets a label of its own.

        Where the model holds the original in a list of its own, that is the same parameter.
        """
        self.tensors[name] = tuple(self.labels.fresh(n) for n in tensor.shape)
        self.names[id(tensor)] = name
        self._static.add(id(tensor))
        self.set(tensor, self.tensors[name])
        self.lives.ignore(tensor)
        if original is not None:
            self._axes[id(original)] = self.tensors[name]
            self._static.add(id(original))
            self._outside[id(original)] = name

    def axes(self, tensor: Tensor) -> tuple[Axis, ...]:
        """The labels of each axis; a tensor never seen (an input, a constant) has none to cut."""
        known = self._axes.get(id(tensor))
        return known if known is not None else tuple(frozen_axis(n) for n in tensor.shape)

    def set(self, tensor: Tensor, axes: tuple[Axis, ...]) -> None:
        """Give a tensor its labels."""
        assert tuple(a.size for a in axes) == tuple(tensor.shape), (self.call[0], [a.size for a in axes], tensor.shape)
        self._axes[id(tensor)] = axes
        self._alive.append(tensor)

    def saw(self, op: str, inputs: list[Tensor], outputs: list[Tensor], follows: bool = False) -> None:
        """Note who reads whom, and which results depend on parameters alone; `follows`: a rule knows numbers."""
        self.unread(*(() if follows else inputs))
        for tensor in inputs:
            self._readers.setdefault(id(tensor), []).append(op)
            if id(tensor) in self.names:
                self._read.add(self.names[id(tensor)])
            elif id(tensor) in self._outside:
                self._read.add(self._outside[id(tensor)])
                if op not in KEEPS_WEIGHTS:
                    for axis in self.axes(tensor):
                        self.freeze(axis, "held outside of the parameters of a module, where a cut cannot reach it")
        if inputs and all(id(t) in self._static for t in inputs):
            self._static.update(id(t) for t in outputs)
            self._alive.extend(outputs)

    def is_static(self, tensor: Tensor) -> bool:
        """Whether the tensor is a parameter, or computed from parameters alone."""
        return id(tensor) in self._static

    def chosen(self, tensor: Tensor, parameter: Tensor) -> None:
        """The tensor is a choice from a parameter, by numbers that may come from activations."""
        self._static.add(id(tensor))
        if id(parameter) in self.names:
            self._chosen[id(tensor)] = self.names[id(parameter)]

    def unread(self, *tensors: Tensor) -> None:
        """Something reads these: where they hold numbers of indices, those indices must stay."""
        for axis in (self.numbers.axis(t, "number", "mixed") for t in tensors):
            if axis is not None:
                self.freeze(axis, "the number of one of its indices is used")

    # --- what rules say ----------------------------------------------------------------------------------------
    def unify(self, a: Axis, b: Axis) -> Axis:
        """Two axes carry the same indices."""
        return self.labels.unify(a, b, self.path)

    def freeze(self, axis: Axis, reason: str) -> Axis:
        """These indices must stay; returns the axis, which may flow on."""
        self.labels.freeze(axis, reason, self.path)
        return axis

    def product(self, whole: Axis, parts: tuple[Axis, ...]) -> None:
        """An axis is seen as several, the last running fastest."""
        self.labels.product(whole, parts, self.path)

    def contract(
        self, op: str, x: Tensor, argument: int, axis: int, w_axis: Axis, w: Tensor, geometry: Geometry | None = None
    ) -> None:
        """`x` is multiplied with `w` and summed along an axis."""
        labels = self.axes(x)[axis]
        self.unify(labels, w_axis)
        base = self._base(w)
        weight = self.names.get(id(base)) if is_whole(self.axes(w), self.axes(base)) else None
        number = len(self.contractions)
        self.contractions.append(Contraction(op, self.path, argument, axis % x.dim(), labels, weight, geometry, number))
        if self.is_static(w) and not self.is_static(x):
            self.mark(w_axis, IN)

    def reduce(self, call: Ran, over: Iterable[Axis], groups: Axis | None = None, least: int = 0) -> None:
        """An op sums, averages or ranks over axes; its outputs have labels. Of the first axis `least` indices stay."""
        op, args, outputs = call
        over = tuple(over)
        if not any(is_live(axis) for axis in over):
            self.reductions.append(Reduction(op, self.path, (), ()))
            return
        inputs = tuple(self.axes(a) if isinstance(a, Tensor) else None for a in args)
        numbers = tuple(self.numbers.axis(t, "number") for t in outputs)
        made = tuple(self.axes(t) for t in outputs)
        self.reductions.append(Reduction(op, self.path, inputs, made, groups, over, numbers, least))

    def whole(self, name: str, reads: Iterable[tuple[tuple[int, ...], int, Axis]] = ()) -> None:
        """A function that hides products inside reads these axes of its arguments."""
        self.wholes.append(Whole(name, self.path, tuple(reads)))

    def block(self, path: str, given: Any, outputs: list[Tensor]) -> None:
        """A module that is checked alone was called."""
        held: dict[Place, Tensor] = {}
        map_places(given, held.setdefault)
        inputs = {place: self.axes(t) for place, t in held.items()}
        numbers = {place: axis for place, t in held.items() if (axis := self.numbers.axis(t, "number")) is not None}
        numbered = tuple(self.numbers.axis(t, "number") for t in outputs)
        self.blocks.append(Block(path, inputs, tuple(map(self.axes, outputs)), numbers, numbered))

    def mark(self, axis: Axis, role: int) -> None:
        """What an axis does."""
        self._marks.append((axis, role))

    def term(self, kind: str, coefficient: int, *axes: Axis, conv: Convolution | None = None) -> None:
        """Multiply-accumulates done here."""
        self.terms.append(Term(kind, self.path, coefficient, axes, conv))

    def writer(
        self, output: Tensor, kind: str, weight: Tensor, written: Axis, bias: Tensor | None, **facts: Any
    ) -> None:
        """A layer that creates an axis, `written` as the weight has it."""
        base = self._base(weight)
        name = self.names.get(id(base)) or self._outside.get(id(base)) or self._chosen.get(id(base))
        computed = name is None
        if computed:
            held = (n for n, a in self.tensors.items() if len(a) > 1 and any(np.array_equal(b, written) for b in a))
            name = next(held, None)
        found = None if name is None else place(self.tensors[name], written)
        position = found if found is not None else 0 if computed else -1
        of = None if bias is None else self._base(bias)
        bias_name = None if of is None else self.names.get(id(of)) or self._outside.get(id(of))
        facts |= {"path": self.path, "kind": kind, "weight": name, "weight_axis": position, "bias": bias_name}
        facts["computed"] = computed
        facts["viewed"] = not computed and not (is_whole(self.axes(weight), self.axes(base)) and of is bias)
        self._writers.append((id(output), facts))

    def norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None) -> None:
        """A batch norm reads `x`."""
        names = (None if t is None else self.names.get(id(t)) for t in (weight, bias, mean))
        self._norms[id(x)] = Norm(self.path, *names)

    def _base(self, weight: Tensor) -> Tensor:
        """The parameter that a view sees."""
        known = id(weight) in self.names or id(weight) in self._chosen
        return weight if known or weight._base is None else weight._base

    # --- ints --------------------------------------------------------------------------------------------------
    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A function is called, as its author wrote it."""
        self.call = (name, args, kwargs)
        self.sliced = 0
        self.used = {}

    def stated(self, position: int, name: str = "") -> Any:
        """The argument as the author wrote it, in the outermost call."""
        _, args, kwargs = self.call
        if name in kwargs:
            return kwargs[name]
        return args[position] if position < len(args) else None

    def reads(self, *values: Any) -> None:
        """A rule has read these ints of the call, and requires an expression of them."""
        self.used |= {id(value): value for value in values}

    def require(self, value: Any, axis: Axis, use: str) -> None:
        """A Python int must follow the number of kept indices of an axis; one that cannot freezes the axis."""
        if isinstance(value, Traced):
            self.used[id(value)] = value
            source = source_of(value)
            if is_live(axis) or attributes_in(source) or any(is_live(a) for a in axes_in(source)):
                self.needs.append(Need(source, axis, self.path, use))
        elif is_live(axis):
            self.freeze(axis, f"{use} is the plain number {value}, which no attribute of a module holds")

    def pin(self, value: Any, use: str) -> None:
        """A number that must stay as it is."""
        if not isinstance(value, Traced):
            return
        if isinstance(value.source, Attribute):
            self._pinned.setdefault(value.source, use)
        elif any(is_live(a) for a in axes_in(value.source)) or attributes_in(value.source):
            if value >= 0:
                self.needs.append(Need(value.source, frozen_axis(int(value)), self.path, f"a number that is {use}"))
                return
            for axis in axes_in(value.source):
                self.freeze(axis, f"its length is {use}")
            for attribute in attributes_in(value.source):
                self._pinned.setdefault(attribute, use)

    def escaped(self, value: Any) -> None:
        """The forward made a float of an int."""
        self.pin(value, "computed with as a fraction")

    def equal(self, a: Source, b: Source) -> None:
        """The forward asked whether a size is what a module says, and it is; so it must stay."""
        for size, other in ((a, b), (b, a)):
            if isinstance(size, Size) and not isinstance(other, (Size, int)):
                self.needs.append(Need(other, size.axis, self.path, "a comparison"))

    # --- the end -----------------------------------------------------------------------------------------------
    def finish(self, outputs: list[Tensor], attributes: dict[Attribute, int]) -> Trace:
        """Close the ledger: outputs are never cut; classes, roles and writers are settled."""
        self.path = ""
        for tensor in outputs:
            for axis in (*self.axes(tensor), self.numbers.axis(tensor, "number", "mixed")):
                if axis is not None:
                    self.freeze(axis, "reaches the model's output")
        residuals = self.carriers.residuals(self.labels, self.axes)
        roles = np.zeros(self.labels.count, dtype=np.int16)
        for axis, role in self._marks:
            roles[axis] |= role
        roles[FROZEN] = 0  # many places bear this label; it says nothing about any of them
        classes, frozen, owners = settle(self.labels, self.needs, self._pinned, attributes, roles, self.experts)
        left = unread(attributes, self.needs, self._pinned)
        owners |= stated(left, self.tensors, classes, roles, owners)
        return Trace(
            classes=classes,
            frozen=frozen,
            tensors=self.tensors,
            roles=roles,
            contractions=tuple(self.contractions),
            reductions=tuple(self.reductions),
            wholes=tuple(self.wholes),
            blocks=tuple(self.blocks),
            residuals=residuals,
            terms=tuple(self.terms),
            storages=self.lives.storages(outputs, self.axes),
            needs=tuple(n for n in self.needs if is_live(n.axis) or any(is_live(a) for a in axes_in(n.source))),
            writers=tuple(self._settle_writers()),
            attributes=attributes,
            owners=owners,
            unused=tuple(n for n in self.tensors if n not in self._read),
            experts=self.experts,
        )

    def _settle_writers(self) -> Iterator[Writer]:
        for output, facts in self._writers:
            alone = len(self._readers.get(output, [])) == 1
            yield Writer(**facts, norm=self._norms.get(output) if alone else None)
