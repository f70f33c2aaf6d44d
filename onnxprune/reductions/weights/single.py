"""Unstructured pruning: single weights become zero, wherever they are. Every shape stays.

Sources: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks (magnitude), and
Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models, equation 1 (wanda).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...graph import Array, Edits, Graph, Node
from ...types import Floats, Mask

Among = Literal["auto", "model", "layer", "output"]
"""What a weight competes with: all others, those of its layer, or those that make the same output."""

SAMPLED = 1 << 18
"""Values of each weight that are compressed, to tell what that comes to."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose weights may become zero.

    Attributes:
        node: it.
        weight: name of the constant.
        data: which of its inputs the weights are multiplied with.
        axis: of that input, which the layer sums over; from the end where negative.
        groups: of a convolution.
    """

    node: Node
    weight: str
    data: int
    axis: int
    groups: int = 1

    def rows(self, array: Array) -> Array:
        """(outputs, inputs of each, taps) of a weight, or of what has its shape."""
        op, g = self.node.op, self.groups
        if op == "ConvTranspose":
            parts = array.reshape(g, array.shape[0] // g, array.shape[1], -1)
            return parts.swapaxes(1, 2).reshape(g * parts.shape[2], parts.shape[1], -1)
        if op == "Conv":
            return array.reshape(*array.shape[:2], -1)
        return (array.T if self._turned else array)[:, :, None]

    def restored(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `rows`: a weight of this shape."""
        if self.node.op == "ConvTranspose":
            parts = rows.reshape(self.groups, shape[1], shape[0] // self.groups, -1)
            return parts.swapaxes(1, 2).reshape(shape)
        return (rows[:, :, 0].T if self._turned else rows).reshape(shape)

    @property
    def _turned(self) -> bool:
        """Whether outputs are columns."""
        if self.node.op == "Gemm":
            return not self.node.attrs.get("transB", 0)
        return self.node.op == "MatMul" and self.data == 0

    def scores(self, array: Array, second: Floats | None = None) -> Floats:
        """float64, as `rows`: |w|, or |w| sqrt(E[x²]) of what it is multiplied with.

        Args:
            array: the weight.
            second: (channels of the input,), E[x²] over samples and positions.
        """
        size = np.abs(self.rows(array).astype(np.float64))
        if second is None:
            return size
        norms = np.sqrt(second).reshape(self.groups, -1).repeat(len(size) // self.groups, axis=0)
        return np.asarray(size * norms[:, :, None])


def layers(graph: Graph) -> tuple[Layer, ...]:
    """Convolutions and matrix products by a constant matrix of floats, each constant once."""
    found: dict[str, Layer] = {}
    for node in graph.nodes:
        for layer in _candidates(node):
            name = layer.weight
            if name in graph.constants and name not in found and graph.dtype(name).kind == "f":
                rank = len(graph.shape_of_constant(name))
                if rank == 2 or (rank > 2 and node.op in ("Conv", "ConvTranspose")):
                    found[name] = layer
    return tuple(found.values())


def _candidates(node: Node) -> Sequence[Layer]:
    if node.op in ("Conv", "ConvTranspose"):
        return [Layer(node, node.inputs[1], 0, 1, int(node.attrs.get("group", 1)))]
    if node.op == "Gemm":
        return [Layer(node, node.inputs[1], 0, 0 if node.attrs.get("transA", 0) else 1)]
    if node.op == "MatMul":
        return [Layer(node, node.inputs[1], 0, -1), Layer(node, node.inputs[0], 1, -2)]
    return []


def masks(scores: Sequence[Floats], share: float, among: Among) -> list[Mask]:
    """Which weights stay: a share of those that compete goes, the lowest first; of equal ones the first.

    Args:
        scores: of each layer, as `Layer.scores`.
        share: to become zero.
        among: which compete; `auto` is `model`.
    """
    if among == "output":
        return [_largest(s.reshape(len(s), -1), share).reshape(s.shape) for s in scores]
    if among == "layer":
        return [_largest(s.reshape(1, -1), share).reshape(s.shape) for s in scores]
    ends = np.cumsum([s.size for s in scores])
    stay = _largest(np.concatenate([s.ravel() for s in scores])[None], share)[0]
    return [m.reshape(s.shape) for m, s in zip(np.split(stay, ends[:-1]), scores, strict=True)]


def _largest(rows: Floats, share: float) -> Mask:
    order = np.argsort(rows, axis=1, kind="stable")
    stay = np.ones(rows.shape, bool)
    np.put_along_axis(stay, order[:, : round(share * rows.shape[1])], False, axis=1)
    return stay


def zeroed(graph: Graph, found: Sequence[Layer], kept: Sequence[Mask]) -> Graph:
    """The graph with zeros where weights don't stay. `kept`: of each layer, as `masks` gives them."""
    new = {}
    for layer, mask in zip(found, kept, strict=True):
        array = graph.array(layer.weight)
        new[layer.weight] = np.where(layer.restored(mask, array.shape), array, array.dtype.type(0))
    return graph.edited(Edits(constants=new))


def notes(graph: Graph, sparse: Graph, kept: Mapping[str, Mask]) -> tuple[str, ...]:
    """What became of the weights, and what that is good for, in words.

    Args:
        graph: before.
        sparse: after.
        kept: name of a weight -> which of its values stay.
    """
    count = sum(mask.size for mask in kept.values())
    gone = sum(int((~mask).sum()) for mask in kept.values())
    before, after = (_compressed(g, kept) for g in (graph, sparse))
    return (
        f"{gone} of {count} weights in {len(kept)} layers are zero ({gone / count:.1%})",
        "ONNX Runtime computes with zeros as with other numbers: the file is not smaller and not faster; "
        f"compressed (zlib), these weights take about {after / before:.0%} of the bytes they took compressed",
    )


def _compressed(graph: Graph, names: Mapping[str, Mask]) -> int:
    return sum(len(zlib.compress(graph.array(name).ravel()[:SAMPLED].tobytes(), 1)) for name in names)
