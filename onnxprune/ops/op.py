"""What a rule works with: one node, and the sentences it can say about ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Array, Node, Shape, make_node
from .combining import combine
from .label import Block, Ids, Label
from .record import APPROXIMATE, GRID_LIMIT, Frozen, Inconsistent, Letter, Produced, SummedInput

if TYPE_CHECKING:
    from .walk import Walk


class Op:
    """One node, as its rule sees it."""

    def __init__(self, walk: Walk, node: Node) -> None:
        self.walk = walk
        self.node = node
        self._answered: set[int] = set()

    # ------------------------------------------------------------ reading

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.attrs.get(name, default)

    def has(self, i: int) -> bool:
        """Whether input `i` is given."""
        return i < len(self.node.inputs) and bool(self.node.inputs[i])

    def _is_blob(self, i: int) -> bool:
        """Whether an input is a constant too long to give ids to: packed, not made of channels."""
        return self.is_constant(i) and max(self.shape(i) or (), default=0) > GRID_LIMIT

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
        return self.walk.label(self.node.inputs[i], self.node, i)

    def value(self, i: int) -> Array | None:
        """The value of an input, where it is known: a shape, positions, a count."""
        return self.walk.facts.values.get(self.node.inputs[i]) if self.has(i) else None

    def new_value(self, i: int) -> Array | None:
        """That value as it will be without any further edit."""
        return self.walk.new_value(self.node.inputs[i])

    @property
    def known_shapes(self) -> str:
        """What makes shapes known that are not."""
        facts = self.walk.facts
        guessed = ", ".join(f"{symbol}={facts.dims[symbol]}" for symbol in sorted(facts.guessed))
        wrongly = f", or --dim where a size was guessed wrongly ({guessed})" if guessed else ""
        return f"known shapes: value_info in the file{wrongly}"

    # ------------------------------------------------------------ saying

    def join(self, a: Block, b: Block) -> None:
        """Ids at the same places of two blocks are one."""
        self.walk.join(self.node, (a.old, a.new), (b.old, b.new))

    def freeze(self, blocks: Sequence[Block], reason: str, unblock: str | None = None) -> None:
        """All ids of these blocks must stay; see `Frozen` for the words."""
        for block in blocks:
            self.walk.freeze(self.node, block, reason, unblock)

    def barrier(self, reason: str, unblock: str | None = None) -> list[Label]:
        """No id of any input may go; outputs have no ids."""
        labels = [self.walk.label(name, self.node, -1) for name in self.node.captured]
        labels += [
            self.label(i) for i in range(len(self.node.inputs)) if self.has(i) and not self._is_blob(i)
        ]
        for label in labels:
            self.freeze(label, reason, unblock)
        if any(labels):
            self.walk.barriers[self.node.index] = unblock
        return [()] * len(self.node.outputs)

    def unknown(self, reason: str) -> list[Label]:
        """A barrier for want of shapes, or of numbers that are computed from them."""
        return self.barrier(reason, self.known_shapes)

    def project(self, block: Block, axes: Sequence[int]) -> Block:
        """See `Walk.project`."""
        return self.walk.project(self.node, block, axes)

    def mix(self, label: Label, axes: Sequence[int], reason: str, unblock: str | None = None) -> Label:
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
                self.freeze([block], reason, unblock)
            else:
                old, new = block.folded(rest)
                if old.size == 0:
                    result.append(self.project(block, rest))
                    continue
                if new.size and new.shape[-1] != old.shape[-1]:
                    raise Inconsistent(self.node, reason, block.old)
                other = old[..., 1:] != old[..., :-1]
                self.walk.record.edges.append((old[..., :-1][other], old[..., 1:][other]))
                result.append(Block(rest, old[..., 0], new[..., 0]))
        return tuple(result)

    def keep_shape(self, label: Label, axes: Sequence[int], reason: str, unblock: str | None = None) -> Label:
        """As `mix`, but the output has the same axes: returns the label itself."""
        self.mix(label, axes, reason, unblock)
        return label

    def normalise(self, label: Label, axes: Sequence[int], reason: str) -> Label:
        """As `mix`, but some may go if approximations are allowed: the others change little."""
        if not self.walk.approximate:
            return self.mix(label, axes, reason, APPROXIMATE)
        touched = [b for b in label if set(b.axes) & set(axes)]
        self.walk.record.normalised += [b.old.ravel() for b in touched]
        rest = [(b, [a for a in b.axes if a not in axes]) for b in label]
        return tuple(self.project(b, left) for b, left in rest if left)

    def grid(self, ids: Ids) -> None:
        """The cells of this grid that stay must close up to a rectangle."""
        if ids.size == 0:
            return
        self.walk.record.grids.append((self.node.index, ids))

    def fixed(self, length: int, axis: int) -> Block:
        """Ids on one axis that can never go: what has no channels, among others that have."""
        block = self.walk.fresh(self.node, (length,), (axis,))
        self.keep(block.old, "has no removable channels")
        return block

    def keep(self, ids: Ids, reason: str) -> None:
        """These ids must stay."""
        self.walk.record.frozen.append(Frozen(ids.ravel(), self.node.index, reason))

    @property
    def _gives_nothing(self) -> bool:
        """Whether every output has an axis of length 0: no channel matters, but widths must still fit."""
        shapes = [self.walk.facts.shapes.get(o) for o in self.node.outputs if o]
        return bool(shapes) and all(s is not None and 0 in s for s in shapes)

    def produce(self, block: Block) -> None:
        """These ids are output channels that this node's weights make."""
        if self._gives_nothing:
            return
        self.walk.record.produced.append(Produced(self.node.index, block.old.ravel()))

    def mask(self, i: int, shape: Shape, axes: tuple[int, ...], ids: Ids, zero: str = "") -> None:
        """Input `i` is where removed ids are dropped."""
        if self._gives_nothing:
            return
        self.walk.record.masks.append(SummedInput(self.node.index, i, shape, axes, ids, zero))

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
        return combine(self, operands, out, views or {}, zeros)

    # ------------------------------------------------------------ editing

    def answer(self, i: int) -> None:
        """The rule answers for what input `i` will say; other values stay what they were (see `settle`)."""
        self._answered.add(i)

    def set_attr(self, name: str, value: Any) -> None:
        """Give an attribute its new value, if it changes."""
        if self.node.attrs.get(name) != value:
            self.walk.record.edits.attrs[self.node.index, name] = value

    def omit(self, i: int) -> None:
        """Leave input `i` out: without it the node computes the same."""
        self.answer(i)
        self.walk.record.edits.rewire[self.node.index, i] = ""

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
        self.answer(i)
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
            if i in self._answered or name not in self.walk.facts.values or name in self.walk.graph.constants:
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


Rule = Callable[[Op], Sequence[Label]]
"""The labels of a node's outputs, from those of its inputs."""

MacsRule = Callable[[Node, Sequence[Shape], Sequence[Shape]], int]
"""Multiply-accumulates of a node, from its attributes and the shapes of its inputs and outputs.

What it looks up and is not known raises `cost.Unknown`; inputs that are left out have shape `()`.
"""
