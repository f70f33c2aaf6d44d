"""What to gather: one request for each tensor that something is wanted of, at how many positions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..contracts.reduction import Key, Wanted
from ..contracts.request import Request, SumKind
from ..contracts.stats import ENOUGH, Need
from ..cost.macs import macs
from ..graph import Facts, Graph, Network, Shape, input_specs

DEFAULT_NEEDS: frozenset[Need] = frozenset({"consumers"})
"""What fits into one and a half times the time of plain inference: see `tools/bench_calibration.py`."""


GRAM_LIMIT = 4096
"""Of wider tensors only the diagonal of the Gram matrix is gathered: a matrix of this width takes 128 MB."""


GRAM_SHARE = 0.15
"""Gram matrices may take this share of the network's own multiply-accumulates."""


MIN_POSITIONS = 2
"""So many positions of each sample are looked at in any case."""


MAX_POSITIONS = 32
"""At most so many are looked at: neighbours are alike, and another sample adds more."""


NEAR = 8
"""Turning a tensor around pays if at least one of so many of its positions is looked at."""


_BLOCKED = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Sum", "Mul", "Concat", "MaxPool", "AveragePool"}
)
"""What ONNX Runtime computes in the layout of convolutions if its inputs are in it."""


def requests(
    network: Network, wanted: Wanted, *, positions: int | None = None, samples: int | None = None
) -> dict[Key, Request]:
    """One request for each tensor that something is wanted of, and for each consumer's kernels.

    Args:
        network: the network.
        wanted: what spaces ask for (`Space.wanted`).
        positions: Gram matrices and zeros look at this many positions of each sample; 0: at all; `None`: at
            as many as keep Gram matrices within `GRAM_SHARE` of the network itself.
        samples: how many there will be, if that is known: with few of them more positions of each are looked
            at, as a Gram matrix of fewer rows than channels is of little use.
    """
    graph, facts = network.graph, network.facts
    shapes = {key: shape for key in wanted.kinds if (shape := facts.shapes.get(key[0])) is not None}
    kinds = {key: _affordable(wanted.kinds[key], shape[key[1]]) for key, shape in shapes.items()}
    batch, fixed = _batch(graph, facts)
    least: dict[Key, int] = {}
    if positions is None:
        grams = {k: s for k, s in shapes.items() if "gram" in kinds[k]}
        budget = GRAM_SHARE * sum(macs(graph, facts).values())
        positions = _positions([(s, k[1]) for k, s in grams.items()], budget)
        if samples:
            least = {k: min(-(-ENOUGH * s[k[1]] // samples), MAX_POSITIONS) for k, s in grams.items()}
    result = {}
    for key, shape in shapes.items():
        length = _length(shape, key[1])
        per_row = not kinds[key].isdisjoint(("gram", "zeros"))
        drawn = positions and max(positions, least.get(key, 0))
        some = drawn if per_row and 0 < drawn < length and shape[0] == batch and key[1] else None
        known = length if fixed and shape[0] == batch else None
        turn = some is not None and (length <= NEAR * some or _is_blocked(graph, key[0]))
        result[key] = Request(key[0], key[1], shape, kinds[key], some, length=known, turn=turn)
    for key, (activation, kernel) in wanted.kernels.items():
        read = facts.shapes.get(activation[0])
        if read is not None:
            result[key] = Request(*activation, read, frozenset({"kernels"}), kernel=kernel)
    return result


def _affordable(kinds: frozenset[SumKind], width: int) -> frozenset[SumKind]:
    """Without a Gram matrix that would be too large: with its diagonal in its place."""
    if "gram" not in kinds or width <= GRAM_LIMIT:
        return kinds
    return kinds - {"gram"} | {"sum", "squares"}


def _batch(graph: Graph, facts: Facts) -> tuple[int, bool]:
    """How many samples the shapes are of, and whether nothing but their number is open.

    Tensors whose first axis has another length hold several rows for each sample (windows, tokens), or time.
    """
    shapes = {spec.name: facts.shapes.get(spec.name) or () for spec in input_specs(graph)}
    first = {shape[0] for shape in shapes.values() if shape}
    opened = [d for spec in input_specs(graph) for d in spec.shape[1:] if not isinstance(d, int)]
    return (first.pop() if len(first) == 1 else 1), not opened


def _length(shape: Shape, axis: int) -> int:
    """Positions of one sample."""
    return math.prod(d for a, d in enumerate(shape) if a not in (0, axis))


def _is_blocked(graph: Graph, tensor: str) -> bool:
    """Whether ONNX Runtime probably keeps a tensor in the layout of convolutions."""
    made = graph.producer.get(tensor)
    if made is None or made.op not in _BLOCKED:
        return made is not None and made.op in ("Conv", "BatchNormalization")
    return all(_is_blocked(graph, i) for i in made.inputs if i and i not in graph.constants)


def _positions(tensors: Sequence[tuple[Shape, int]], budget: float) -> int:
    """The most positions of each sample for which Gram matrices stay within a budget of multiplications."""

    def cost(positions: int) -> float:
        return sum(
            (shape[0] if axis else 1) * min(_length(shape, axis), positions) * shape[axis] ** 2
            for shape, axis in tensors
        )

    low, high = MIN_POSITIONS, max((_length(shape, axis) for shape, axis in tensors), default=0)
    if high <= low:
        return 0
    high = min(high, MAX_POSITIONS)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle - 1)
    return low
