"""What a rule works with: one node, and what arrives at it from behind.

A rule is the vector-Jacobian product of an operator: from the cotangents of a node's outputs (the gradients
of the loss with respect to them) it makes the cotangents of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import TINY, Array, Facts, Graph, Node, Shape, evaluate
from .lengths import Lengths, sizes, summed_axes
from .tape import FLOAT32, DType, Tape, Tensor


class Undifferentiable(Exception):
    """A rule can't say a gradient; the reason, in words."""


@dataclass(frozen=True)
class Blocked:
    """In the place of one input's cotangent: it can't be said, and why."""

    reason: str


Cotangent = Tensor | Blocked | None
"""Of one input; `None` where the loss does not depend on it."""

Rule = Callable[["Vjp"], Sequence[Cotangent]]
"""The cotangents of the inputs, in order; those behind the last that matters may be left out.

Raises `Undifferentiable` where it can say none.
"""


@dataclass(frozen=True)
class Scene:
    """What is known of the graph that is differentiated.

    Attributes:
        graph: the graph.
        facts: its shapes and values.
        lengths: which lengths are fixed.
        fixed: tensors that are constants or computed from constants alone, none of which moves.
        moving: constants that are inputs from now on, and what depends on their values.
        asked: tensors whose own cotangents, or those of whose readers, are asked for.
    """

    graph: Graph
    facts: Facts
    lengths: Mapping[str, Lengths]
    fixed: frozenset[str]
    moving: frozenset[str]
    asked: frozenset[str] = frozenset()


class Vjp:
    """One node, as its rule sees it.

    Args:
        tape: where the gradient goes.
        scene: the graph.
        node: the node.
        cotangents: of its outputs; `None` where the loss does not depend on one.
        wanted: for each input whether its cotangent is needed.
    """

    def __init__(
        self,
        tape: Tape,
        scene: Scene,
        node: Node,
        cotangents: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> None:
        self.tape = tape
        self.node = node
        self.cotangents = tuple(cotangents)
        self._scene = scene
        self._wanted = tuple(wanted)

    # ------------------------------------------------------------ reading the node

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.node.attrs.get(name, default)

    @property
    def opset(self) -> int:
        """The version of the standard operator set."""
        return self.tape.opset

    def has(self, i: int) -> bool:
        """Whether input `i` is given."""
        return i < len(self.node.inputs) and bool(self.node.inputs[i])

    def gives(self, i: int) -> bool:
        """Whether output `i` has a name."""
        return i < len(self.node.outputs) and bool(self.node.outputs[i])

    def wants(self, i: int) -> bool:
        """Whether the cotangent of input `i` is needed."""
        return i < len(self._wanted) and self._wanted[i]

    def is_fixed(self, i: int) -> bool:
        """Whether input `i` never changes from run to run."""
        return self.node.inputs[i] in self._scene.fixed

    def value(self, i: int) -> Array | None:
        """The value of a small input that is known and the same for all symbolic dimensions."""
        return self._value(self.node.inputs[i]) if self.has(i) else None

    def _value(self, name: str) -> Array | None:
        graph, facts = self._scene.graph, self._scene.facts
        if facts.is_dynamic(name) or name in self._scene.moving:
            return None
        if name in facts.values:
            return facts.values[name]
        if name in graph.constants:
            return graph.array(name)
        maker = graph.producer.get(name)
        if maker is None or name not in self._scene.fixed or not self._is_tiny(name):
            return None
        known = {i: value for i in maker.inputs if (value := self._value(i)) is not None}
        made = evaluate(graph, maker, facts.shapes, known)
        return None if made is None else made[maker.outputs.index(name)]

    def _is_tiny(self, name: str) -> bool:
        shape = self._scene.facts.shapes.get(name)
        return shape is not None and int(np.prod(shape)) <= TINY

    def is_read_by(self, op: str) -> bool:
        """Whether the first output is read by an operator of this type."""
        return any(n.op == op for n, _ in self._scene.graph.readers.get(self.node.outputs[0], ()))

    def maker(self, i: int) -> Node | None:
        """The node that makes input `i`, if this node alone reads that and nobody asks for its cotangent."""
        name, scene = self.node.inputs[i], self._scene
        alone = len(scene.graph.readers[name]) == 1 and name not in scene.graph.outputs
        asked = name in scene.asked or self.node.outputs[0] in scene.asked
        return scene.graph.producer.get(name) if alone and not asked else None

    # ------------------------------------------------------------ its tensors

    def x(self, i: int = 0) -> Tensor:
        """Input `i`."""
        return self._tensor(self.node.inputs[i])

    def y(self, i: int = 0) -> Tensor:
        """Output `i`."""
        return self._tensor(self.node.outputs[i])

    @property
    def dy(self) -> Tensor:
        """The cotangent of the first output.

        Raises:
            Undifferentiable: the loss depends on another output.
        """
        for i, cotangent in enumerate(self.cotangents[1:], start=1):
            if cotangent is not None:
                raise Undifferentiable(f"output {i} of {self.node.op} has no gradient here")
        if self.cotangents[0] is None:
            raise ValueError(f"no cotangent arrives at {self.node}")
        return self.cotangents[0]

    def _tensor(self, name: str) -> Tensor:
        dtype = self._scene.facts.dtypes.get(name)
        if dtype is None and name in self._scene.graph.constants:
            dtype = self._scene.graph.dtype(name)
        if dtype is None:
            raise Undifferentiable(f"the dtype of '{name}' is not known")
        return self.tape.tensor(name, dtype)

    @property
    def dtype(self) -> DType:
        """Of the arithmetic: that of the cotangents."""
        return next((c.dtype for c in self.cotangents if c is not None), FLOAT32)

    # ------------------------------------------------------------ shapes

    def shape(self, i: int = 0) -> Shape:
        """Shape of an input, for one choice of the symbolic dimensions."""
        return self._shape(self.node.inputs[i])

    def out_shape(self, i: int = 0) -> Shape:
        """Shape of an output, for one choice of the symbolic dimensions."""
        return self._shape(self.node.outputs[i])

    def rank(self, i: int = 0) -> int:
        """The number of axes of an input."""
        return len(self.shape(i))

    def lengths(self, i: int = 0) -> Lengths:
        """Lengths of the axes of an input, `None` where they vary."""
        self.shape(i)
        return self._scene.lengths[self.node.inputs[i]]

    def out_lengths(self, i: int = 0) -> Lengths:
        """Lengths of the axes of an output, `None` where they vary."""
        self.out_shape(i)
        return self._scene.lengths[self.node.outputs[i]]

    def _shape(self, name: str) -> Shape:
        shape = self._scene.facts.shapes.get(name)
        if shape is None:
            raise Undifferentiable(f"the shape of '{name}' is not known")
        return shape

    def shape_tensor(self, i: int = 0) -> Tensor:
        """int64, the shape of an input: a constant if it is fixed."""
        lengths = self.lengths(i)
        fixed = [n for n in lengths if n is not None]
        return self.tape.ints(fixed) if len(fixed) == len(lengths) else self.x(i).shape()

    def reshaped(self, value: Tensor, i: int = 0) -> Tensor:
        """A tensor in the shape of input `i`, with as many elements."""
        known = sizes(self.shape(i), self.lengths(i))
        return value.reshape(self.x(i).shape() if known is None else known)

    def expanded(self, value: Tensor, i: int = 0) -> Tensor:
        """A tensor broadcast to the shape of input `i`."""
        return value.expand(self.shape_tensor(i))

    def zeros(self, i: int = 0) -> Tensor:
        """Zeros in the shape of input `i`."""
        return self.tape.zeros(self.shape_tensor(i), self.dtype)

    def collapsed(self, value: Tensor, i: int, lengths: Lengths | None = None) -> Tensor:
        """The sum of a broadcast result over what input `i` was repeated along, in the shape of the input.

        Args:
            value: in the shape of the result.
            i: the input.
            lengths: of the result, by default those of the first output.
        """
        source, result = self.lengths(i), self.out_lengths() if lengths is None else lengths
        axes = summed_axes(source, result)
        lead = tuple(range(len(result) - len(source)))
        return value.sum(axes, keep=True).squeeze(*lead) if axes else value

    def axis(self, default: int, rank: int | None = None) -> int:
        """The attribute `axis`, counted from the front."""
        return int(self.attr("axis", default)) % (self.rank() if rank is None else rank)

    def axes(self, i: int = 1, name: str = "axes") -> list[int] | None:
        """Axes, an attribute in old operator sets and an input in new ones; `None` if there are none.

        Raises:
            Undifferentiable: they are computed.
        """
        found = self.attr(name)
        if self.has(i):
            found = self.known(i, name)
        return None if found is None else [int(a) for a in np.ravel(found)]

    def known(self, i: int, what: str) -> Array:
        """The value of an input that a rule can't do without.

        Raises:
            Undifferentiable: it is computed while the graph runs.
        """
        value = self.value(i)
        if value is None:
            raise Undifferentiable(f"the {what} of {self.node.op} are computed")
        return value
