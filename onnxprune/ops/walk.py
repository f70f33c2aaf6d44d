"""One walk through a graph with the rule of each operator: analysis and rewriting are the same walk.

Analysis walks with nothing removed and records what the rules say: which ids are one, which must stay,
which grids must stay rectangular, which reader drops which ids. Rewriting walks again with a
`Selection`; the same rules then see ids as they will be, so weights and constants follow from what
arrives at them, and wherever two arrays were joined they must now agree, or the walk ends in
`Inconsistent`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OnnxpruneError
from ..graph import Array, Edits, Facts, Graph, Node, Shape, evaluate, make_node
from .label import Block, Ids, Label, block_on, locate, rectangle, uniform

Letter = Hashable
Rule = Callable[["Op"], Sequence[Label]]
"""The labels of a node's outputs, from those of its inputs."""

GRID_LIMIT = 1 << 24
"""Ids of larger grids are not written out: such a Reshape is a barrier."""


class Inconsistent(OnnxpruneError):
    """The ids that are left don't fit together; a rewrite must not go on."""

    exit_code = 3

    def __init__(self, node: Node, reason: str, ids: Ids) -> None:
        super().__init__(reason, where=str(node))
        self.node = node
        self.ids = np.unique(ids)


@dataclass(frozen=True)
class Selection:
    """What a rewriting walk keeps.

    Attributes:
        kept: bool, one per id.
        unit: int64, one per id: the unit that it belongs to.
    """

    kept: NDArray[np.bool_]
    unit: Ids


@dataclass(frozen=True)
class Frozen:
    """Ids that can't be removed, and why."""

    ids: Ids
    node: int
    reason: str


@dataclass(frozen=True)
class Cover:
    """`ids[r]` stays as long as any of `members[r]` does.

    Attributes:
        ids: (R,), one for each row of a grid.
        members: (R, M), the ids in that row.
        leading: the rows run along leading axes of the grid (heads), not along its last (width).
        node: the node that needs whole rows.
    """

    ids: Ids
    members: Ids
    leading: bool
    node: int


@dataclass(frozen=True)
class Mask:
    """A reader that drops removed ids: reading `zero` there instead is the same as removing them.

    Attributes:
        node: index of the node.
        input: which input.
        shape: the input's shape, or the view of it that `axes` refer to.
        axes: of that shape.
        ids: over these axes.
        zero: the tensor to read there (a zero point); "" for the number 0.
    """

    node: int
    input: int
    shape: Shape
    axes: tuple[int, ...]
    ids: Ids
    zero: str


@dataclass(frozen=True)
class Produced:
    """Output channels that a node's weights make."""

    node: int
    ids: Ids


@dataclass(frozen=True)
class ConstantLabel:
    """Ids of a constant, over a view of its shape.

    Attributes:
        name: the constant.
        use: (node index, input index) where a vector has a label for each of its readers; else `None`.
        untied: the Identity node that copies it, where the copy has ids of its own.
        view: a shape of the same size.
        label: may hold blocks that share a leading axis (grouped convolutions).
        node: index of its first reader, which may still choose the order of its entries.
    """

    name: str
    use: tuple[int, int] | None
    untied: int | None
    view: Shape
    label: Label
    node: int


@dataclass
class Record:
    """Everything that the rules said during one walk."""

    edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)
    normalised: list[Ids] = field(default_factory=list)
    """Ids that may go although a normalisation runs over them."""
    covers: list[Cover] = field(default_factory=list)
    grids: list[tuple[int, Ids]] = field(default_factory=list)
    cut: list[Ids] = field(default_factory=list)
    """Parts of grids that must stay rectangular, too."""
    masks: list[Mask] = field(default_factory=list)
    produced: list[Produced] = field(default_factory=list)
    labels: dict[str, Label] = field(default_factory=dict)
    constants: dict[Hashable, ConstantLabel] = field(default_factory=dict)
    edits: Edits = field(default_factory=Edits)
    size: int = 0


class Walk:
    """The state of one walk; rules see it through `Op`.

    Args:
        graph: the graph; not changed.
        facts: its shapes and values.
        rules: operator -> rule.
        selection: what stays; `None` to analyse.
        approximate: channels may go that a normalisation runs over.
    """

    def __init__(
        self,
        graph: Graph,
        facts: Facts,
        rules: Mapping[str, Rule],
        selection: Selection | None = None,
        *,
        approximate: bool = False,
    ) -> None:
        self.graph = graph
        self.facts = facts
        self.selection = selection
        self.approximate = approximate
        self.record = Record()
        self.new_values: dict[str, Array] = {}
        self.weights: set[str] = set(graph.constants)
        """Constants and what is computed from nothing else but shapes."""
        self._rules = rules
        self._followed: set[tuple[str, int]] = set()
        """Constants, and the nodes whose rules follow their ids."""

    def run(self) -> Record:
        """Walk all nodes in order.

        Raises:
            Inconsistent: (with a selection) what is left does not fit together.
        """
        for node in self.graph.nodes:
            if node.op == "Constant":
                continue
            if self._is_shape_arithmetic(node):
                self._evaluate(node)
            else:
                self._apply(node)
        last = Node(-1, "output", "", (), self.graph.outputs, {})
        for name in self.graph.outputs:
            for block in self.record.labels.get(name, ()):
                self.freeze(last, block, f"is the graph output '{name}'")
        self._keep_constants(last)
        self._shapes()
        return self.record

    def _keep_constants(self, last: Node) -> None:
        """A constant that someone reads without following its ids must stay as it is."""
        for found in self.record.constants.values():
            if found.use is not None or found.untied is not None:
                continue
            readers = [node for node, _ in self.graph.readers[found.name]]
            strangers = [node for node in readers if (found.name, node.index) not in self._followed]
            strangers += [last] if found.name in self.graph.outputs else []
            for node in strangers[:1]:
                for block in found.label:
                    self.freeze(node, block, f"reads '{found.name}' as it is")

    def new_shape(self, name: str) -> Shape | None:
        """The shape of a tensor once the removed ids are gone."""
        shape = self.facts.shapes.get(name)
        if shape is None:
            return None
        lengths = list(shape)
        for block in self.record.labels.get(name, ()):
            for axis, length in zip(block.axes, block.new.shape, strict=True):
                lengths[axis] = length
        return tuple(lengths)

    def new_value(self, name: str) -> Array | None:
        """The value of shape arithmetic once the removed ids are gone."""
        return self.new_values.get(name, self.facts.values.get(name))

    def fresh(self, node: Node, shape: Shape, axes: tuple[int, ...]) -> Block:
        """New ids, numbered the same in every walk over the same graph."""
        start, self.record.size = self.record.size, self.record.size + math.prod(shape)
        old = np.arange(start, self.record.size, dtype=np.int64).reshape(shape)
        return Block(axes, old, self.close_up(node, old))

    def join(self, node: Node, a: tuple[Ids, Ids], b: tuple[Ids, Ids]) -> None:
        """The ids at the same places of both (old, new) pairs are one."""
        old_a, old_b = np.broadcast_arrays(a[0], b[0])
        if old_a is not old_b and not np.array_equal(old_a, old_b):
            self.record.edges.append((old_a.ravel(), old_b.ravel()))
        if self.selection is not None and not self._still_meet(a, b):
            reason = "its inputs no longer have matching channels"
            raise Inconsistent(node, reason, np.r_[a[0].ravel(), b[0].ravel()])

    def _still_meet(self, a: tuple[Ids, Ids], b: tuple[Ids, Ids]) -> bool:
        """Whether each id meets an id that it met before; another one of the same unit won't do."""
        if a[1].shape != b[1].shape:
            return False
        if a[0].size and np.array_equal(b[0].ravel()[locate(a[0], a[1])], b[1]):
            return True
        span = np.int64(self.record.size)
        before, now = a[0] * span + b[0], a[1] * span + b[1]
        return bool(np.isin(now, before).all())

    def freeze(self, node: Node, block: Block, reason: str) -> None:
        """All ids of a block must stay."""
        self.record.frozen.append(Frozen(block.old.ravel(), node.index, reason))
        if block.new.size != block.old.size:
            raise Inconsistent(node, reason, block.old)

    def project(self, node: Node, block: Block, axes: Sequence[int]) -> Block:
        """One id for each row of a grid, on the axes `axes`: it stays as long as anything in its row does."""
        kept = tuple(a for a in block.axes if a in axes)
        if kept == block.axes:
            return block
        old, new = block.folded(kept)
        if uniform(old):
            if not uniform(new):
                raise Inconsistent(node, "the rows of a grid are no longer whole", block.old)
            return Block(kept, old[..., 0], new[..., 0])
        start, self.record.size = self.record.size, self.record.size + math.prod(old.shape[:-1])
        ids = np.arange(start, self.record.size, dtype=np.int64).reshape(old.shape[:-1])
        dropped = [a for a in block.axes if a not in kept]
        members = old.reshape(-1, old.shape[-1])
        self.record.covers.append(Cover(ids.ravel(), members, max(kept) < min(dropped), node.index))
        if self.selection is None:
            return Block(kept, ids, ids)
        rows = locate(old, new) // old.shape[-1]
        if not uniform(rows):
            raise Inconsistent(node, "the rows of a grid are mixed up", block.old)
        return Block(kept, ids, ids.ravel()[rows[..., 0]])

    def constant_label(self, name: str, node: Node, i: int) -> Label:
        """Ids for every axis (longer than 1) of a constant, made on its first use.

        Vectors get ids for each use, as exporters merge equal ones: they are copied if need be. Matrices
        that are used twice are truly shared.
        """
        shape = self.graph.shape_of_constant(name)
        return self.declare(node, name, i, shape, [(a,) for a, d in enumerate(shape) if d > 1])

    def declare(
        self,
        node: Node,
        name: str,
        i: int,
        view: Shape,
        axes: Sequence[tuple[int, ...]],
        untied: int | None = None,
    ) -> Label:
        """Ids of a constant over a view of its shape; those of a grid close up within its rows.

        A constant that is read through two different views must stay as it is.
        """
        vector = sum(d > 1 for d in self.graph.shape_of_constant(name)) <= 1
        use = (node.index, i) if vector and untied is None else None
        self._followed.add((name, node.index))
        key = (name, use, untied)
        if key not in self.record.constants:
            blocks = tuple(self.fresh(node, tuple(view[a] for a in group), group) for group in axes)
            self.record.constants[key] = ConstantLabel(name, use, untied, view, blocks, node.index)
        found = self.record.constants[key]
        if found.view == view:
            return found.label
        for block in found.label:
            self.freeze(node, block, f"reads '{name}' in another shape than its other readers")
        return ()

    def follow(self, node: Node, block: Block, leader: Block) -> Block:
        """The block of a constant in the order of what it meets (they differ after a shuffle).

        Only the first reader of a constant can choose the order; later ones must find it right.

        Args:
            node: that reader.
            block: of the constant.
            leader: on some of the axes of `block`, or all.
        """
        if self.selection is None:
            return block
        old, new = block.folded(leader.axes)
        if old.shape[:-1] != leader.old.shape or not new.size or new.shape[:-1] != leader.new.shape:
            return block
        wanted = locate(leader.old, leader.new).ravel()
        rows = (locate(old, new)[..., 0] // old.shape[-1]).ravel()
        if np.array_equal(wanted, rows) or not np.array_equal(np.sort(wanted), np.sort(rows)):
            return block
        order = np.argsort(rows)[np.argsort(np.argsort(wanted))]
        new = new.reshape(len(rows), -1)[order]
        moved = [*leader.axes, *(a for a in block.axes if a not in leader.axes)]
        back = [moved.index(a) for a in block.axes]
        new = new.reshape([block.new.shape[block.axes.index(a)] for a in moved]).transpose(back)
        for key, found in self.record.constants.items():
            own = next((b for b in found.label if b.old.flat[0] == block.old.min()), None)
            if own is not None and found.node == node.index:
                arranged = _arranged_as(own.old, block.old, new)
                if arranged is not None:
                    label = tuple(Block(b.axes, b.old, arranged) if b is own else b for b in found.label)
                    self.record.constants[key] = replace(found, label=label)
                    return Block(block.axes, block.old, new)
        return block

    def close_up(self, node: Node, ids: Ids) -> Ids:
        """What stays of a grid of ids, as a rectangle.

        Raises:
            Inconsistent: it has holes.
        """
        if self.selection is None:
            return ids
        return self.close_up_as(node, ids, ids[self.selection.kept[ids]])

    def close_up_as(self, node: Node, old: Ids, new: Ids) -> Ids:
        """`new`, in the shape that the kept cells of the grid `old` close up to."""
        if self.selection is None:
            return new.reshape(old.shape)
        shape = rectangle(self.selection.kept[old])
        if shape is None or math.prod(shape) != new.size:
            raise Inconsistent(node, "its groups would differ in width", old)
        return new.reshape(shape)

    # ------------------------------------------------------------ one node

    def _is_shape_arithmetic(self, node: Node) -> bool:
        """Whether all outputs are known numbers of the kind that shapes are made of, not data."""
        values = [self.facts.values.get(o) for o in node.outputs if o]
        return bool(values) and all(v is not None and (v.ndim <= 1 or v.size == 1) for v in values)

    def _evaluate(self, node: Node) -> None:
        if self.selection is None:
            return
        shapes = {i: self.new_shape(i) for i in node.inputs}
        values = {i: v for i in node.inputs if (v := self.new_value(i)) is not None}
        result = evaluate(self.graph, node, shapes, values)
        if result is None:
            raise Inconsistent(node, "its value can't be computed any more", np.zeros(0, np.int64))
        self.new_values.update((o, v) for o, v in zip(node.outputs, result, strict=False) if o)

    def _apply(self, node: Node) -> None:
        op = Op(self, node)
        inputs = [i for i in node.inputs if i]
        if inputs and not node.captured and all(i in self.weights or i in self.facts.values for i in inputs):
            self.weights.update(node.outputs)
        rule = self._rules.get(node.op)
        if rule is None or node.captured:
            labels: Sequence[Label] = op.barrier(
                f"{node.op} has no rule" if rule is None else f"{node.op} has a body"
            )
        else:
            labels = rule(op)
        op.settle()
        for name, label in zip(node.outputs, labels, strict=False):
            for block in label:
                if block.old.size and not block.new.size:
                    raise Inconsistent(node, "nothing would be left of it", block.old)
            if name and label:
                self.record.labels[name] = label

    def _shapes(self) -> None:
        for name, label in self.record.labels.items():
            lengths = {
                axis: length
                for block in label
                for axis, length, before in zip(block.axes, block.new.shape, block.old.shape, strict=True)
                if length != before
            }
            if lengths:
                self.record.edits.shapes[name] = lengths


class Op:
    """One node, as its rule sees it."""

    def __init__(self, walk: Walk, node: Node) -> None:
        self.walk = walk
        self.node = node
        self._handled: set[int] = set()

    # ------------------------------------------------------------ reading

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.attrs.get(name, default)

    def has(self, i: int) -> bool:
        """Whether input `i` is given."""
        return i < len(self.node.inputs) and bool(self.node.inputs[i])

    @property
    def opset(self) -> int:
        """The version of the standard operator set."""
        return self.walk.graph.opset()

    def shape(self, i: int = 0) -> Shape | None:
        """Shape of an input, in the graph as it is."""
        return self.walk.facts.shapes.get(self.node.inputs[i])

    def out_shape(self, i: int = 0) -> Shape | None:
        """Shape of an output, in the graph as it is."""
        return self.walk.facts.shapes.get(self.node.outputs[i])

    def is_constant(self, i: int) -> bool:
        """Whether an input is a constant."""
        return self.node.inputs[i] in self.walk.graph.constants

    def is_weight(self, i: int) -> bool:
        """Whether an input is a constant or computed from constants alone."""
        return self.node.inputs[i] in self.walk.weights

    def label(self, i: int = 0) -> Label:
        """Ids of an input."""
        name = self.node.inputs[i]
        if name in self.walk.graph.constants:
            return self.walk.constant_label(name, self.node, i)
        return self.walk.record.labels.get(name, ())

    def value(self, i: int) -> Array | None:
        """The known value of an input that says a shape, position or count; the rule now answers for it."""
        if not self.has(i):
            return None
        self._handled.add(i)
        return self.walk.facts.values.get(self.node.inputs[i])

    def new_value(self, i: int) -> Array | None:
        """That value as it will be without any further edit."""
        return self.walk.new_value(self.node.inputs[i])

    # ------------------------------------------------------------ saying

    def join(self, a: Block, b: Block) -> None:
        """Ids at the same places of two blocks are one."""
        self.walk.join(self.node, (a.old, a.new), (b.old, b.new))

    def freeze(self, blocks: Sequence[Block], reason: str) -> None:
        """All ids of these blocks must stay."""
        for block in blocks:
            self.walk.freeze(self.node, block, reason)

    def barrier(self, reason: str) -> list[Label]:
        """No id of any input may go; outputs have no ids."""
        for name in self.node.captured:
            self.freeze(self.walk.record.labels.get(name, ()), reason)
        for i in range(len(self.node.inputs)):
            if self.has(i) and not self.is_constant(i):
                self.freeze(self.label(i), reason)
        return [()] * len(self.node.outputs)

    def project(self, block: Block, axes: Sequence[int]) -> Block:
        """See `Walk.project`."""
        return self.walk.project(self.node, block, axes)

    def mix(self, label: Label, axes: Sequence[int], reason: str) -> Label:
        """The operator mixes all entries along these axes: none can go without the others.

        A block that lies wholly on these axes must stay; of a grid, each remaining row becomes one unit.
        Returns what is left on the other axes.
        """
        result: list[Block] = []
        for block in label:
            rest = tuple(a for a in block.axes if a not in axes)
            if rest == block.axes:
                result.append(block)
            elif not rest:
                self.freeze([block], reason)
            else:
                old, new = block.folded(rest)
                if new.size and new.shape[-1] != old.shape[-1]:
                    raise Inconsistent(self.node, reason, block.old)
                other = old[..., 1:] != old[..., :-1]
                self.walk.record.edges.append((old[..., :-1][other], old[..., 1:][other]))
                result.append(Block(rest, old[..., 0], new[..., 0]))
        return tuple(result)

    def keep_shape(self, label: Label, axes: Sequence[int], reason: str) -> Label:
        """As `mix`, but the output has the same axes: returns the label itself."""
        self.mix(label, axes, reason)
        return label

    def normalise(self, label: Label, axes: Sequence[int], reason: str) -> Label:
        """As `mix`, but some may go if approximations are allowed: the others change little."""
        if not self.walk.approximate:
            return self.mix(label, axes, reason)
        touched = [b for b in label if set(b.axes) & set(axes)]
        self.walk.record.normalised += [b.old.ravel() for b in touched]
        rest = [(b, [a for a in b.axes if a not in axes]) for b in label]
        return tuple(self.project(b, left) for b, left in rest if left)

    def grid(self, ids: Ids) -> None:
        """The cells of this grid that stay must close up to a rectangle."""
        self.walk.record.grids.append((self.node.index, ids))

    def fixed(self, length: int, axis: int) -> Block:
        """Ids on one axis that can never go: what has no channels, among others that have."""
        block = self.walk.fresh(self.node, (length,), (axis,))
        self.keep(block.old, "has no removable channels")
        return block

    def keep(self, ids: Ids, reason: str) -> None:
        """These ids must stay."""
        self.walk.record.frozen.append(Frozen(ids.ravel(), self.node.index, reason))

    def produce(self, block: Block) -> None:
        """These ids are output channels that this node's weights make."""
        self.walk.record.produced.append(Produced(self.node.index, block.old.ravel()))

    def mask(self, i: int, shape: Shape, axes: tuple[int, ...], ids: Ids, zero: str = "") -> None:
        """Input `i` is where removed ids are dropped."""
        self.walk.record.masks.append(Mask(self.node.index, i, shape, axes, ids, zero))

    # ------------------------------------------------------------ combining inputs

    def combine(
        self,
        operands: Sequence[tuple[int, Sequence[Letter]]],
        out: Sequence[Letter],
        views: Mapping[int, tuple[Shape, Label]] | None = None,
        zeros: Mapping[int, str] | None = None,
    ) -> Label:
        """Join the inputs as an einsum does: axes of the same letter run together.

        Letters that are not in `out` are contracted: removed ids are dropped there. An axis of length 1
        is broadcast. Elementwise operators are the case without contraction.

        Args:
            operands: (input index, a letter for each axis).
            out: a letter for each axis of the output.
            views: input index -> (shape, label) to use instead of the input's own.
            zeros: input index -> its zero point ("" for the number 0); if given, only these can be masked.

        Returns:
            The label of the output.
        """
        sizes: dict[Letter, int] = {}
        order: dict[Letter, int] = {}
        given: list[tuple[int, dict[Letter, int], Label]] = []
        for i, letters in operands:
            shape, label = (views or {}).get(i) or (self.shape(i), self.label(i))
            if shape is None or len(shape) != len(letters):
                self.barrier(f"the shape of input {i} of {self.node.op} is not known")
                return ()
            for letter, length in zip(letters, shape, strict=True):
                order.setdefault(letter, len(order))
                sizes[letter] = max(sizes.get(letter, 1), length)
            given.append((i, dict(zip(letters, shape, strict=True)), label))
        seen: list[tuple[int, dict[Letter, int], list[Block]]] = []
        for i, lengths, label in given:
            own = list(lengths)
            meets = [a for a, letter in enumerate(own) if lengths[letter] == sizes[letter]]
            blocks = [b.on(meets) for b in label if set(b.axes) & set(meets)]
            seen.append((i, lengths, [b.moved([order[own[a]] for a in b.axes]) for b in blocks]))
        followers = [b for i, _, blocks in seen if self.is_constant(i) for b in blocks]
        merged = self._merge(
            [b for i, _, blocks in seen if not self.is_constant(i) for b in blocks], followers
        )
        stays: set[int] = set()
        for i, lengths, blocks in seen:
            covered = {a for b in blocks for a in b.axes}
            for letter, length in lengths.items():
                if length == sizes[letter] > 1 and order[letter] not in covered:
                    name = self.node.inputs[i]
                    stays.add(order[letter])
                    for block in merged:
                        if order[letter] in block.axes:
                            row = self.project(block, [order[letter]])
                            self.freeze([row], f"meets '{name}', which has no removable channels")
        merged = [b for b in merged if not set(b.axes) <= stays]
        kept = {order[letter] for letter in out if letter in order}
        for block in merged:
            if not set(block.axes) <= kept:
                self._drop(block, [s for s in seen if zeros is None or s[0] in zeros], order, zeros or {})
        rest = [self.project(b, sorted(kept)) for b in merged if kept & set(b.axes)]
        position = {order[letter]: axis for axis, letter in enumerate(out) if letter in order}
        return tuple(b.moved([position[a] for a in b.axes]) for b in self._merge(rest))

    def _merge(self, blocks: Sequence[Block], followers: Sequence[Block] = ()) -> list[Block]:
        """Join blocks that share axes; those within another one are absorbed by it.

        Followers are blocks of constants: their entries take the order of what they meet.
        """
        merged: list[Block] = []
        leaders = [(b, False) for b in blocks]
        for own, follows in sorted(
            [*leaders, *((b, True) for b in followers)], key=lambda x: -len(x[0].axes)
        ):
            block, absorbed = own, False
            for other in merged:
                common = sorted(set(block.axes) & set(other.axes))
                if common:
                    row = self.project(other, common)
                    block = self.walk.follow(self.node, block, row) if follows else block
                    self.join(row, self.project(block, common))
                    absorbed = absorbed or common == list(block.axes)
            if not absorbed:
                merged.append(block)
        return merged

    def _drop(
        self,
        block: Block,
        seen: Sequence[tuple[int, dict[Letter, int], list[Block]]],
        order: Mapping[Letter, int],
        zeros: Mapping[int, str],
    ) -> None:
        """Say which operand to mask where this block is contracted: a constant if there is one."""
        candidates = sorted(seen, key=lambda s: not self.is_constant(s[0]))
        for i, lengths, blocks in candidates:
            for own in blocks:
                if own.axes == block.axes:
                    letters = list(lengths)
                    axes = [letters.index(next(x for x in letters if order[x] == a)) for a in own.axes]
                    placed = own.moved(axes)
                    self.mask(i, tuple(lengths.values()), placed.axes, placed.old, zeros.get(i, ""))
                    return

    # ------------------------------------------------------------ editing

    def set_attr(self, name: str, value: Any) -> None:
        """Give an attribute its new value, if it changes."""
        if self.node.attrs.get(name) != value:
            self.walk.record.edits.attrs[self.node.index, name] = value

    def set_value(self, i: int, wanted: Array, *, lengths: bool = False) -> None:
        """Make input `i` say `wanted`, if it would not do so by itself.

        Elements that depend on symbolic dimensions stay computed.

        Args:
            i: the input.
            wanted: its new value.
            lengths: elements are lengths of axes, which a narrower width makes shorter in proportion.

        Raises:
            Inconsistent: an element would have to change that can't.
        """
        self._handled.add(i)
        name = self.node.inputs[i] if self.has(i) else ""
        now = self.walk.new_value(name) if name else None
        wanted = np.asarray(wanted, np.int64 if now is None else now.dtype)
        if now is not None and np.array_equal(now, wanted):
            return
        edits = self.walk.record.edits
        if not name or not self.walk.facts.is_dynamic(name):
            edits.literals[self.node.index, i] = wanted
            return
        if now is None or now.shape != wanted.shape:
            raise Inconsistent(self.node, "a computed width would have to change", self._all_ids())
        dynamic = self.walk.facts.dynamic[name] & (wanted != -1)
        base = f"{self.node.outputs[0]}.pruned{i}"
        parts, source = {"mask": dynamic, "widths": wanted}, name
        if (dynamic & (now != wanted)).any():
            before = self.walk.facts.values[name]
            if not lengths or (now != before)[dynamic].any() or (now[dynamic] <= 0).any():
                reason = "a width computed from symbolic dimensions would have to change"
                raise Inconsistent(self.node, reason, self._all_ids())
            common = np.gcd(now, wanted)
            parts["times"], parts["over"] = (np.where(dynamic, v // common, 1) for v in (wanted, now))
            source = self._insert(
                base, "Div", [self._insert(base, "Mul", [name, "times"], parts), "over"], parts
            )
        edits.rewire[self.node.index, i] = self._insert(base, "Where", ["mask", source, "widths"], parts)

    def _insert(self, base: str, kind: str, inputs: Sequence[str], parts: Mapping[str, Array]) -> str:
        """A node before this one; inputs that `parts` names are constants of their own."""
        edits = self.walk.record.edits
        output = f"{base}.{kind}"
        names = []
        for name in inputs:
            if name in parts:
                edits.added[f"{base}.{name}"] = parts[name]
            names.append(f"{base}.{name}" if name in parts else name)
        edits.before.setdefault(self.node.index, []).append(make_node(kind, names, [output], output))
        return output

    def settle(self) -> None:
        """Values that only enter a computation must stay what they were, whatever they were computed from."""
        if self.walk.selection is None:
            return
        for i, name in enumerate(self.node.inputs):
            if i in self._handled or name not in self.walk.facts.values or name in self.walk.graph.constants:
                continue
            before, now = self.walk.facts.values[name], self.walk.new_value(name)
            if now is None or not np.array_equal(before, now, equal_nan=before.dtype.kind == "f"):
                if self.walk.facts.is_dynamic(name):
                    raise Inconsistent(
                        self.node, "a number computed from a width would change", self._all_ids()
                    )
                self.walk.record.edits.literals[self.node.index, i] = before

    def _all_ids(self) -> Ids:
        labels = [b.old.ravel() for i in range(len(self.node.inputs)) if self.has(i) for b in self.label(i)]
        return np.concatenate(labels) if labels else np.zeros(0, np.int64)


def _arranged_as(own: Ids, placed: Ids, new: Ids) -> Ids | None:
    """`new`, in the layout of `own`, where `placed` is `own` transposed or split; `None` if it is neither."""
    if own.ndim == 1:
        return new.ravel() if np.array_equal(placed.ravel(), own) else None
    orders = itertools.permutations(range(placed.ndim)) if placed.ndim == own.ndim else ()
    return next((new.transpose(o) for o in orders if np.array_equal(placed.transpose(o), own)), None)


def lengths(label: Label, shape: Shape) -> Shape:
    """A shape with the new lengths of labelled axes."""
    result = list(shape)
    for block in label:
        for axis, length in zip(block.axes, block.new.shape, strict=True):
            result[axis] = length
    return tuple(result)


def single(label: Label, axis: int) -> Block | None:
    """The block on an axis if that is all it covers."""
    block = block_on(label, axis)
    return block if block is not None and block.axes == (axis,) else None
