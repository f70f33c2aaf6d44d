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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from ..graph import TINY, Array, Facts, Graph, Node, Shape, choice, evaluate, input_specs
from .chosen import chosen
from .label import Block, Ids, Label, block_on, locate, rectangle, uniform
from .op import Op, Rule
from .record import ConstantLabel, Cover, Frozen, Inconsistent, Record, Selection

_WITH_BODIES = ("If", "Loop", "Scan")


class Walk:
    """The state of one walk; rules see it through `Op`.

    Args:
        graph: the graph; not changed.
        facts: its shapes and values.
        rules: operator -> rule.
        selection: what stays; `None` to analyse.
        approximate: channels may go that a normalisation runs over.
        states: inputs of the graph -> outputs that the caller feeds back into them, and that may become
            narrower together.
    """

    def __init__(
        self,
        graph: Graph,
        facts: Facts,
        rules: Mapping[str, Rule],
        selection: Selection | None = None,
        *,
        approximate: bool = False,
        states: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.graph = graph
        self.facts = facts
        self.selection = selection
        self.approximate = approximate
        self.states = states
        self.record = Record()
        self.new_values: dict[str, Array] = {}
        self.weights: set[str] = set(graph.constants)
        """Constants and what is computed from nothing else but shapes."""
        self._rules = rules
        self._followed: set[tuple[str, int]] = set()
        """Constants, and the nodes whose rules follow their ids."""
        self.barriers: dict[int, str | None] = {}
        """Nodes that ids don't get through, and what would change that."""

    def run(self) -> Record:
        """Walk all nodes in order.

        Raises:
            Inconsistent: (with a selection) what is left does not fit together.
        """
        self._begin_states()
        for node in self.graph.nodes:
            if node.op == "Constant":
                continue
            if self._is_shape_arithmetic(node):
                self._evaluate(node)
            else:
                self._apply(node)
        last = Node(-1, "output", "", (), self.graph.outputs, {})
        for given, name in self.states.items():
            self._tie(last, given, name)
        for name in (n for n in self.graph.outputs if n not in self.states.values()):
            for block in self.record.labels.get(name, ()):
                self.freeze(last, block, f"is the graph output '{name}'")
        self._keep_constants(last)
        self._shapes()
        return self.record

    def _begin_states(self) -> None:
        """Each axis of a state has ids, unless its length is symbolic."""
        first = Node(-1, "input", "", (), tuple(self.states), {})
        for spec in input_specs(self.graph) if self.states else ():
            if spec.name in self.states:
                axes = [axis for axis, n in enumerate(spec.shape) if isinstance(n, int) and n > 1]
                lengths = [n for n in spec.shape if isinstance(n, int) and n > 1]
                blocks = [self.fresh(first, (n,), (a,)) for a, n in zip(axes, lengths, strict=True)]
                self.record.labels[spec.name] = tuple(blocks)

    def _tie(self, last: Node, given: str, made: str) -> None:
        """What the caller feeds back has the channels of what it is fed into."""
        before, after = (self.record.labels.get(name, ()) for name in (given, made))
        for block in before:
            (axis,) = block.axes
            other = block_on(after, axis)
            if other is None:
                self.freeze(last, block, f"meets '{made}', which has no removable channels")
                continue
            old, new = (np.moveaxis(ids, other.axes.index(axis), -1) for ids in (other.old, other.new))
            rows = zip(old.reshape(-1, old.shape[-1]), new.reshape(-1, new.shape[-1]), strict=False)
            for row_old, row_new in rows:
                self.join(last, (row_old, row_new), (block.old, block.new))
        for block in after:
            if not set(block.axes) & {axis for own in before for axis in own.axes}:
                self.freeze(last, block, f"is the graph output '{made}'")

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
                    self.freeze(node, block, f"reads '{found.name}' as it is", _copied(found.name))

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
        spread = 1 in (a[0].size, b[0].size) and a[1].size and b[1].size
        if a[1].shape != b[1].shape and not spread:
            return False
        if a[0].shape == b[0].shape and a[0].size and np.array_equal(b[0].ravel()[locate(a[0], a[1])], b[1]):
            return True
        span = np.int64(self.record.size)
        before, now = a[0] * span + b[0], a[1] * span + b[1]
        return bool(np.isin(now, before).all())

    def freeze(self, node: Node, block: Block, reason: str, unblock: str | None = None) -> None:
        """All ids of a block must stay; see `Frozen` for the words."""
        self.record.frozen.append(Frozen(block.old.ravel(), node.index, reason, unblock))
        if block.new.size != block.old.size:
            raise Inconsistent(node, reason, block.old)

    def lacking(self, name: str) -> str | None:
        """What would give ids to a tensor that has none: whatever lets them through the barrier before it."""
        wanted, seen = [name], {name}
        while wanted:
            node = self.graph.producer.get(wanted.pop())
            if node is not None and node.index in self.barriers:
                return self.barriers[node.index]
            more = {i for i in node.inputs if i and not self.record.labels.get(i)} - seen if node else set()
            seen |= more
            wanted += sorted(more)
        return None

    def project(self, node: Node, block: Block, axes: Sequence[int]) -> Block:
        """One id for each row of a grid, on the axes `axes`: it stays as long as anything in its row does."""
        kept = tuple(a for a in block.axes if a in axes)
        if kept == block.axes:
            return block
        old, new = block.folded(kept)
        if old.size == 0:
            return self._project_nothing(node, kept, old, new)
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

    def _project_nothing(self, node: Node, kept: tuple[int, ...], old: Ids, new: Ids) -> Block:
        """Rows of a grid without cells: nothing says which of them stay, so all do."""
        rows = self.fresh(node, old.shape[:-1], kept)
        self.record.frozen.append(Frozen(rows.old.ravel(), node.index, "has rows that hold nothing"))
        if new.shape[:-1] != old.shape[:-1]:
            raise Inconsistent(node, "has rows that hold nothing", rows.old)
        return rows

    def label(self, name: str, node: Node, i: int) -> Label:
        """Ids of the tensor that is input `i` of a node, or captured by its body (-1).

        Every axis (longer than 1) of a constant has ids, made on its first use.

        Vectors get ids for each use, as exporters merge equal ones: they are copied if need be. Matrices
        that are used twice are truly shared.
        """
        if name not in self.graph.constants:
            return self.record.labels.get(name, ())
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
            reason = f"reads '{name}' in another shape than its other readers"
            self.freeze(node, block, reason, _copied(name))
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
        return bool(values) and all(v is not None and _says_sizes(v) for v in values)

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
        labels: Sequence[Label]
        pairs = choice(node)
        if pairs is not None:
            labels = chosen(op, pairs)
        elif node.captured or node.op in _WITH_BODIES:
            labels = op.barrier(f"{node.op} has a body", f"an export without {node.op}")
        elif rule is None:
            labels = op.barrier(
                f"{node.op} has no rule", f"a rule for {node.op} (docs/adding-an-operator.md)"
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


def _copied(name: str) -> str:
    return f"a copy of '{name}' for each of its readers"


def _says_sizes(value: Array) -> bool:
    """A few numbers; long vectors of floats are parameters, such as ones that an exporter computes."""
    return value.size == 1 or (value.ndim <= 1 and (value.dtype.kind in "iub" or value.size <= TINY))


def _arranged_as(own: Ids, placed: Ids, new: Ids) -> Ids | None:
    """`new`, in the layout of `own`, where `placed` is `own` transposed or split; `None` if it is neither."""
    if own.ndim == 1:
        return new.ravel() if np.array_equal(placed.ravel(), own) else None
    orders = itertools.permutations(range(placed.ndim)) if placed.ndim == own.ndim else ()
    return next((new.transpose(o) for o in orders if np.array_equal(placed.transpose(o), own)), None)
