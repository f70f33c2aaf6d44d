"""Means of activations without samples, from BatchNormalization.

After a BatchNormalization, the mean and the standard deviation of each channel over the training data are
its bias and its scale. With a normal distribution assumed, they give the mean of what activation
functions make of them. Nagel, van Baalen, Blankevoort and Welling 2019, "Data-Free Quantization Through
Weight Equalization and Bias Correction", section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..graph import Array, Facts, Graph, segment
from ..ops import elementwise
from ..types import Floats
from .prefix import ancestors, reads
from .sessions import open_session

_POINTS = 512
"""Of each distribution: the mean of what an activation function makes of it is then right to 0.1%."""

_FOLLOWED = frozenset({*elementwise.RULES, "Flatten", "GlobalAveragePool", "Identity"})


@dataclass(frozen=True, eq=False)
class Normal:
    """A tensor with channels along axis 1.

    Attributes:
        mean: float64 (channels,).
        deviation: float64 (channels,), standard deviations.
    """

    mean: Floats
    deviation: Floats


def normals(graph: Graph) -> dict[str, Normal]:
    """What every BatchNormalization of a graph gives, by the names of the tensors."""
    found = {}
    for node in graph.nodes:
        if node.op == "BatchNormalization" and all(i in graph.constants for i in node.inputs[1:5]):
            scale, bias = (graph.array(i).astype(np.float64) for i in node.inputs[1:3])
            found[node.outputs[0]] = Normal(bias, np.abs(scale))
    return found


def expected(graph: Graph, facts: Facts, known: Mapping[str, Normal], name: str) -> Floats | None:
    """The mean of each channel of a tensor, or `None` where the graph doesn't determine it.

    Args:
        graph: the graph.
        facts: its shapes.
        known: tensors whose channels are normally distributed; different ones are taken as independent.
        name: the tensor: one of these, or what is made of them element by element, or by a global mean.

    Returns:
        float64 (channels,).
    """
    if name in known:
        return known[name].mean
    behind = [graph.nodes[i] for i in sorted(ancestors(graph, [name], known))]
    made = {o for node in behind for o in node.outputs}
    sources = dict.fromkeys(
        i for n in behind for i in reads(n) if i and i not in graph.constants and i not in made
    )
    if not sources or not sources.keys() <= known.keys() or not all(n.op in _FOLLOWED for n in behind):
        return None
    points = _drawn(facts, {source: known[source] for source in sources})
    part = segment(graph, behind, {source: array.dtype for source, array in points.items()}, [name])
    try:
        given = open_session(part).run(points)[name]
    except InputError:  # a shape that is written down doesn't fit single points
        return None
    return given.astype(np.float64).reshape(_POINTS, -1).mean(0) if given.shape[0] == _POINTS else None


def _drawn(facts: Facts, known: Mapping[str, Normal]) -> dict[str, Array]:
    """Quantiles in place of samples (points, channels, 1, ...), in an order of their own for each tensor."""
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(_POINTS) + 0.5) / _POINTS)
    random = np.random.default_rng(0)
    found = {}
    for name, normal in known.items():
        values = normal.mean + normal.deviation * random.permutation(quantiles)[:, None]
        axes = (1,) * (len(facts.shapes.get(name) or ()) - 2)
        found[name] = values.reshape(*values.shape, *axes).astype(facts.dtypes[name])
    return found
