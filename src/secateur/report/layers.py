"""What a drawn network is made of: blocks, layers in them, and parts of the axes that layers read and write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """Indices of an axis that belong together."""

    group: int  # 1, 2, ... as in `graph.groups`; 0: of no group
    indices: int
    stuck: bool = False  # whether these are units that are frozen; other fixed widths, as of the input, are no units
    why: str = ""  # they are of no group, and where that was found


@dataclass
class Layer:
    """A module with tensors of its own, or one that works on the tensors of another."""

    path: str
    kind: str  # the module's class
    tensors: dict[str, tuple[int, ...]]  # name within the module -> shape
    macs: int
    reads: tuple[Part, ...]
    writes: tuple[Part, ...]
    along: tuple[Part, ...]  # of a layer that neither reads nor writes: scaled and shifted, say
    own: bool = False  # whether these are the tensors of a block itself
    row: int = 0  # its place in the order of execution

    @property
    def groups(self) -> set[int]:
        """Numbers of all groups it has to do with."""
        return {part.group for part in (*self.reads, *self.writes, *self.along)} - {0}


@dataclass
class Block:
    """A module that holds others."""

    path: str
    kind: str
    children: list[Layer | Block] = field(default_factory=list)
    macs: int = 0
    open: bool = False

    def layers(self) -> Iterator[Layer]:
        """All layers in it, in order."""
        for child in self.children:
            yield from child.layers() if isinstance(child, Block) else (child,)

    @property
    def groups(self) -> set[int]:
        """Numbers of all groups that its layers have to do with."""
        return set().union(*(layer.groups for layer in self.layers()))

    def blocks(self) -> list[Block]:
        """The blocks right in it."""
        return [child for child in self.children if isinstance(child, Block)]

    def all_blocks(self) -> Iterator[Block]:
        """The blocks in it, and those in them."""
        for block in self.blocks():
            yield block
            yield from block.all_blocks()
