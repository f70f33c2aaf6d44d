"""Which nodes have weights that can make up for what was removed before them, and in which order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..graph import Graph, Node
from ..types import Analysis, Mask
from .prefix import reads

LINEAR = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1, 0), "MatMul": (1, 0)}
"""Operator -> which inputs may be the weight."""


@dataclass(frozen=True)
class Consumer:
    """A node that can be fitted anew.

    Attributes:
        key: its output, by which it is found in the original and in the pruned graph.
        side: which input is the weight.
        data: the tensor that it reads.
    """

    key: str
    side: int
    data: str


def inexact(graph: Graph, analysis: Analysis, kept: Mask) -> set[str]:
    """The tensors that are no longer what they were (channels that are gone apart)."""
    summed = {r.node for r in analysis.readers if not kept[r.place.units].all()}
    summed |= {n for g in analysis.groups if g.approximate and not kept[g.units].all() for n in g.nodes}
    found: set[str] = set()
    for node in graph.nodes:
        if node.index in summed or any(i in found for i in reads(node)):
            found.update(node.outputs)
    return found - {""}


def consumers(graph: Graph, pruned: Graph, changed: Collection[str]) -> list[Consumer]:
    """The linear nodes among those whose output has changed, with a weight of their own."""
    found = []
    for node in pruned.nodes:
        if node.op not in LINEAR or node.outputs[0] not in changed or node.outputs[0] not in graph.producer:
            continue
        for side in LINEAR[node.op]:
            weight = node.inputs[side]
            other = node.inputs[1 - side]
            if (
                weight in pruned.constants
                and other not in pruned.constants
                and len(pruned.readers[weight]) == 1
                and (pruned.dtype(weight).kind == "f" or pruned.dtype(weight).name == "bfloat16")
            ):
                found.append(Consumer(node.outputs[0], side, other))
                break
    return found


def stages(graph: Graph, keys: Collection[str]) -> dict[int, int]:
    """For every node, how many consumers (by `keys`) lie one behind the other on the longest way to it."""
    after: dict[str, int] = {}
    result: dict[int, int] = {}
    for node in graph.nodes:
        result[node.index] = max((after.get(i, 0) for i in reads(node)), default=0)
        step = int(bool(node.outputs) and node.outputs[0] in keys)
        after.update(dict.fromkeys(node.outputs, result[node.index] + step))
    return result


def nodes_of_stage(graph: Graph, stage: dict[int, int], number: int) -> list[Node]:
    """The nodes of one stage."""
    return [n for n in graph.nodes if stage[n.index] == number]
