"""An If whose branches are computed before it: it chooses between them, so that what they give is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .label import Label
from .op import Op
from .record import Letter


def chosen(op: Op, pairs: Sequence[tuple[str, str]]) -> list[Label]:
    """Channels of what either branch gives are one. `pairs`: the tensors that each output is chosen from."""
    op.freeze(op.label(0), "decides about branches")
    return [_one_of(op, output, pair) for output, pair in zip(op.node.outputs, pairs, strict=True)]


def _one_of(op: Op, output: str, pair: tuple[str, str]) -> Label:
    facts, constants = op.walk.facts, op.walk.graph.constants
    shapes = [facts.shapes.get(name) for name in pair]
    labels = [() if name in constants else op.walk.label(name, op.node, -1) for name in pair]
    if shapes[0] is None or shapes[0] != shapes[1]:
        reason = f"the branches of the If give '{output}' in shapes that differ or are not known"
        for label in labels:
            op.freeze(label, reason, op.known_shapes)
        return ()
    node = replace(op.node, inputs=(op.node.inputs[0], *pair), captured=())
    letters: list[Letter] = list(range(len(shapes[0])))
    views = {i: (shapes[0], label) for i, label in enumerate(labels, 1)}
    return Op(op.walk, node).combine([(1, letters), (2, letters)], letters, views)
