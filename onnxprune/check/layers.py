"""The layers of a model, and which of another model's layers are the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..cost.macs import macs
from ..graph import Facts, Graph, Node, bodies_of, has_bodies
from .measure import Subject


@dataclass(frozen=True)
class ModelLayer:
    """A node that multiplies or holds weights.

    Attributes:
        name: of the node, or of its first output where it has none.
        op: its operator.
        shape: of its largest constant; empty where it has none.
        dtype: of that constant; empty where it has none.
        params: values in its constants; one that several layers share belongs to the first.
        size: bytes of these.
        macs: multiply-accumulates; 0 where they aren't known.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    dtype: str
    params: int
    size: int
    macs: int


def layers(subject: Subject) -> tuple[ModelLayer, ...]:
    """The layers of a model, in the order of its graph; those in bodies of If, Loop and Scan as well."""
    return tuple(_layers(subject.graph, subject.facts, "", {}))


def _layers(graph: Graph, facts: Facts, prefix: str, taken: dict[int, object]) -> Iterator[ModelLayer]:
    """`taken`: constants that belong to a layer already, by identity."""
    costs = macs(graph, facts)
    for node in graph.nodes:
        for body in bodies_of(graph, facts, node):
            yield from _layers(body.graph, body.facts, f"{prefix}{_name(node)}/{body.name}/", taken)
        constants = [name for name in dict.fromkeys(node.inputs) if name in graph.constants]
        own = [name for name in constants if id(graph.constants[name]) not in taken]
        params = sum(graph.count(name) for name in own if graph.count(name) > 1)
        if (node.index in costs and not has_bodies(node)) or params:
            taken.update((id(graph.constants[name]), graph.constants[name]) for name in own)
            weight = max(constants, key=graph.count, default=None)
            yield ModelLayer(
                f"{prefix}{_name(node)}",
                node.op,
                graph.shape_of_constant(weight) if weight else (),
                graph.dtype(weight).name if weight else "",
                params,
                sum(graph.nbytes(name) for name in own),
                0 if has_bodies(node) else costs.get(node.index, 0),
            )


def pair(
    old: Sequence[ModelLayer], new: Sequence[ModelLayer]
) -> Iterator[tuple[ModelLayer | None, ModelLayer | None]]:
    """Match layers of two models: `None` stands for a layer that the other model doesn't have.

    Equal names are the same layer. What is left is aligned by operator and rank, in the order of the graphs:
    so a new export, which names everything anew, isn't taken for a new model.
    """
    before = {(layer.name, layer.op): layer for layer in old}
    after = {(layer.name, layer.op): layer for layer in new}
    partner = {id(layer): before[key] for key, layer in after.items() if key in before}
    left = [layer for layer in old if (layer.name, layer.op) not in after]
    right = [layer for layer in new if id(layer) not in partner]
    matcher = SequenceMatcher(None, [_kind(a) for a in left], [_kind(b) for b in right], autojunk=False)
    for a, b, length in matcher.get_matching_blocks():
        partner |= {id(right[b + k]): left[a + k] for k in range(length)}
    matched = {id(layer) for layer in partner.values()}
    yield from ((partner.get(id(layer)), layer) for layer in new)
    yield from ((layer, None) for layer in old if id(layer) not in matched)


def operator_changes(old: Graph, new: Graph) -> dict[str, tuple[int, int]]:
    """Operator -> how often it is used before and after, where that changed."""
    before, after = Counter(old.operators()), Counter(new.operators())
    return {op: (before[op], after[op]) for op in sorted({*before, *after}) if before[op] != after[op]}


def _kind(layer: ModelLayer) -> tuple[str, int]:
    return layer.op, len(layer.shape)


def _name(node: Node) -> str:
    return node.name or node.outputs[0]
