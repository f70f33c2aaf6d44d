"""A layer behind another one that restores, position by position, the channels that this one no longer makes.

Of y = W p + b only the rows K are kept: z = W_K p + b_K; y is then fitted by A z + a, from the same sums.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Edits, Graph, Node, make_node
from ..graph.behind import fresh, insert
from ..ops.layers.layout import Layout
from ..types import Floats
from .regression import Covariance, Fit, fit


def narrowed(node: Node, found: Fit, keep: Array) -> tuple[Floats, Floats, Floats]:
    """What is kept of a fit, and how to put it back where it was.

    Args:
        node: the node; the bias of a MatMul is none of its own.
        found: its weights (G, O, F) and biases (G, O).
        keep: int64, ascending, which of the G * O outputs are kept: equally many, K, of each group.

    Returns:
        (G, K, F), (G, K), and zeros (G, O, K) with a one for every output that is kept.
    """
    groups, outputs = found.bias.shape
    inner = keep.reshape(groups, -1) % outputs
    weights = np.take_along_axis(found.weights, inner[:, :, None], 1)
    bias = np.take_along_axis(found.bias, inner, 1)
    selection = np.zeros((groups, outputs, inner.shape[1]))
    np.put_along_axis(selection, inner[:, None, :], 1.0, 1)
    return weights, bias * (node.op != "MatMul"), selection


def restored(halves: tuple[Covariance, Covariance], weights: Floats, bias: Floats, selection: Floats) -> Fit:
    """The regression of all outputs on those that are kept, pulled towards these alone."""
    first, second = (h.through(weights, bias) for h in halves)
    return fit((first, second), selection, np.zeros(selection.shape[:2]))


def restore_behind(edits: Edits, graph: Graph, node: Node, layout: Layout, found: Fit, like: Array) -> None:
    """Insert the layer that carries a fit (G, O, K), in the dtype of `like`."""
    y = node.outputs[0]
    name = fresh(graph, f"{y}.restored")
    groups, _, width = found.weights.shape
    matrix, bias = found.weights.reshape(-1, width).astype(like.dtype), found.bias.ravel().astype(like.dtype)
    w, b = f"{name}.weight", f"{name}.bias"
    if node.op in ("Conv", "ConvTranspose"):
        edits.added.update({w: matrix.reshape(*matrix.shape, *(1,) * (like.ndim - 2)), b: bias})
        nodes = [make_node("Conv", [y, w, b], [name], name, group=groups)]
    elif node.op == "Gemm":
        edits.added.update({w: matrix, b: bias})
        nodes = [make_node("Gemm", [y, w, b], [name], name, transB=1)]
    elif layout.outputs == -1:
        edits.added.update({w: matrix.T.copy(), b: bias})
        nodes = [make_node("MatMul", [y, w], [f"{name}.product"], f"{name}.product")]
        nodes.append(make_node("Add", [f"{name}.product", b], [name], name))
    else:
        edits.added.update({w: matrix, b: bias[:, None]})
        nodes = [make_node("MatMul", [w, y], [f"{name}.product"], f"{name}.product")]
        nodes.append(make_node("Add", [f"{name}.product", b], [name], name))
    insert(edits, graph, y, nodes, name)
    edits.shapes.setdefault(y, {})[layout.outputs] = groups * width
