"""The contract of a kind of evidence, and what a pass over the data leaves: plain tensors by kind, owner and field."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import files
from ..errors import BadExample, BadModel, CheckpointError, NeedsData
from ..groups.graph import Graph
from ..registry import Registry
from .readers import Read, Reader

Loss = Callable[[Any, Any], Tensor]
Batches = Iterable[tuple[Any, Any]]
Fields = dict[str, Tensor]
KIND = "evidence"


@dataclass(frozen=True)
class Sampling:
    """How much of the data is looked at, where looking at all of it would cost too much."""

    points: int = 10  # positions of each feature map or sequence whose inputs enter a Gram matrix
    images: int = 500  # examples whose feature maps are ranked
    seed: int = 0
    weights: frozenset[str] | None = None  # those whose products and gradients are looked at; None: all


class Collector:
    """One kind of evidence: sees each batch once, keeps sums, never activations.

    `reads`: it wants `read` called with what each layer reads; `differentiates`: it wants gradients, of
    `parameters()` and `in_turn()` and, if `reads`, of what layers read; `twice`: such that can be differentiated again.
    `data`: it wants batches; one that does without finds all in `values`.
    """

    name: ClassVar[str] = ""
    data: ClassVar[bool] = True
    reads: ClassVar[bool] = False
    differentiates: ClassVar[bool] = False
    twice: ClassVar[bool] = False

    def __init__(self, graph: Graph, sampling: Sampling) -> None:
        self.graph, self.sampling = graph, sampling
        self.missing: dict[str, str] = {}  # owner -> why there is nothing
        self.examples = 1  # in the batch under way

    def parameters(self) -> Collection[str]:
        """Names of the parameters whose gradients `batch` wants, all at once."""
        return ()

    def in_turn(self) -> Collection[str]:
        """Names of the parameters whose gradients `gradient` wants; each is freed before all of them are there."""
        return ()

    def gates(self) -> Mapping[str, Tensor]:
        """By name, ones that `gate` multiplies with, whose gradients `batch` wants beside those of parameters."""
        return {}

    def gate(self, reader: Reader, x: Tensor, axis: int) -> Tensor:
        """What a layer is to read in place of x, of the same values."""
        return x

    def watching(self) -> AbstractContextManager[None]:
        """Around the forward of each batch, for a kind that must see more of the model than what layers read."""
        return nullcontext()

    def read(self, read: Read) -> None:
        """What a layer reads in this batch; where gradients are wanted, `read.gradient` calls back with its own."""

    def gradient(self, name: str, gradient: Tensor, parameter: Tensor) -> None:
        """That of one parameter, detached, when the backward pass brings it; not called where the loss needs none."""

    def batch(self, gradients: Mapping[str, Tensor | None], held: Mapping[str, Tensor]) -> None:
        """After the backward pass of a batch: the gradients asked for, and all parameters as the forward saw them."""

    def values(self) -> dict[str, Fields]:
        """Owner (a group or a parameter, by name) -> field -> tensor."""
        raise NotImplementedError(f"{type(self).__name__} does not define values()")


COLLECTORS: Registry[Collector] = Registry("kind of evidence", __package__)
collector = COLLECTORS.register


def pairs(batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Each batch, as (inputs, targets). Raises `BadExample` for what is no such pair."""
    for number, batch in enumerate(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            told = f"{type(batch).__name__}{f' of {len(batch)}' if isinstance(batch, (tuple, list, dict)) else ''}"
            raise BadExample(f"batch {number} is a {told}; give batches=[(inputs, targets), ...], a loader's, say")
        yield batch[0], batch[1]


def from_data(needs: Collection[str]) -> list[str]:
    """Those of the needs of a criterion that take batches, by name."""
    kinds = COLLECTORS.all()
    return sorted(n for n in set(needs) - {"weights"} if n not in kinds or kinds[n].data)


@dataclass
class Evidence:
    """Weights as they are, and what one pass over the data left: kind -> owner -> field -> tensor."""

    model: nn.Module
    values: dict[str, dict[str, Fields]] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)  # kind -> owner -> why it has none
    seed: int = 0

    def weight(self, name: str) -> Tensor:
        """A parameter, or a buffer that a layer multiplies with, detached."""
        found: Tensor = attrgetter(name)(self.model)
        return found.detach()

    def of(self, kind: str, owner: str) -> Fields:
        """The fields of one owner. Raises `NeedsData` for a kind not collected, `BadModel` where the owner has none."""
        if kind not in self.values:
            raise NeedsData(f"this evidence holds no {kind}; give batches, or collect it anew")
        if owner not in self.values[kind]:
            why = self.missing.get(kind, {}).get(owner, "no layer that can be watched reads it")
            raise BadModel(
                f"there are no {kind} of {owner!r}: {why}; use a criterion that needs none, or frozen={owner!r}"
            )
        return self.values[kind][owner]

    def save(self, path: str | Path) -> None:
        """One `.safetensors` file. Raises `CheckpointError`."""
        tensors: dict[str, Tensor] = {}
        layout: list[list[str]] = []
        for kind, owners in self.values.items():
            for owner, fields in owners.items():
                for name, tensor in fields.items():
                    tensors[str(len(layout))] = tensor
                    layout.append([kind, owner, name])
        facts = {"layout": layout, "missing": self.missing, "seed": self.seed, "model": fingerprint(self.model)}
        files.write(Path(path), KIND, tensors, {**facts, "kinds": sorted(self.values)})

    @classmethod
    def load(cls, path: str | Path, model: nn.Module) -> Evidence:
        """What `save` stored, for the model that it was collected on. Raises `CheckpointError`."""
        tensors, facts = files.read(Path(path), KIND)
        if facts["model"] != fingerprint(model):
            raise CheckpointError(f"{path} was collected on other weights than this model has; collect it anew")
        values: dict[str, dict[str, Fields]] = {kind: {} for kind in facts["kinds"]}
        for number, (kind, owner, name) in enumerate(facts["layout"]):
            values[kind].setdefault(owner, {})[name] = tensors[str(number)]
        return cls(model, values, facts["missing"], facts["seed"])


def fingerprint(model: nn.Module) -> str:
    """Eight hexadecimal digits that change with any name, shape, type or bit of a parameter or buffer."""
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return files.checksum({name: t.detach().cpu().contiguous() for name, t in held.items()}, "")
