"""LSTM, GRU and RNN: a hidden unit is its row in every gate and its column in the recurrence.

Each direction has units of its own, equally many, and none goes whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..graph import Graph, Node, Shape, filling
from .label import Block, Label
from .op import Op, Rule
from .record import CONSTANT, Letter

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

_REARRANGING = frozenset(
    [
        *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape"),
        *("Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    ]
)
"""What a state goes through between the graph's input, or a constant, and the layer."""


def recurrent(op: Op) -> list[Label]:
    """X (seq, batch, I); W (D, gates*H, I); R (D, gates*H, H); B (D, 2*gates*H); states (D, batch, H)."""
    x, w = op.shape(0), op.shape(1)
    if x is None or w is None:
        return op.unknown(f"the shapes of the {op.node.op} are not known")
    if not all(op.is_constant(i) for i in (1, 2, 3, 7) if op.has(i)):
        return op.barrier(f"the weights of the {op.node.op} are not constants", CONSTANT)
    gates, batch_first = _GATES[op.node.op], bool(op.attr("layout", 0))
    directions, hidden, inputs = w[0], w[1] // gates, w[2]

    def declare(i: int, view: Shape, axes: Sequence[tuple[int, ...]]) -> Label:
        return op.walk.declare(op.node, op.node.inputs[i], i, view, axes)

    steps = op.mix(op.label(0), [1 if batch_first else 0], f"{op.node.op} runs along time")
    sequence: list[Letter] = ["b", "t", "i"] if batch_first else ["t", "b", "i"]
    shape_w, shape_r = (directions, gates, hidden, inputs), (directions, gates, hidden, hidden)
    views: dict[int, tuple[Shape, Label]] = {
        0: (x, steps),
        1: (shape_w, declare(1, shape_w, [(0, 2), (3,)])),
    }
    operands: list[tuple[int, Sequence[Letter]]] = [(0, sequence), (1, ["d", "gate", "h", "i"])]
    recurrence = declare(2, shape_r, [(0, 2), (0, 3)])
    views[2] = (shape_r, recurrence[:1])
    operands.append((2, ["d", "gate", "h", "back"]))
    if len(recurrence) > 1:
        op.mask(2, shape_r, (0, 3), recurrence[1].old)
    for i, parts in ((3, 2 * gates), (7, 3)):
        if op.has(i):
            view = (directions, parts, hidden)
            views[i] = (view, declare(i, view, [(0, 2)]))
            operands.append((i, ["d", f"part{i}", "h"]))
    if op.has(4) and not op.is_constant(4):
        op.freeze(op.label(4), "are sequence lengths")
    out: list[Letter] = ["b", "d", "h"] if batch_first else ["d", "b", "h"]
    label = op.combine(operands, out, views)
    units = next((b for b in label if out.index("h") in b.axes), None)
    if units is None:
        return [()] * len(op.node.outputs)
    if len(recurrence) > 1:
        op.join(units, Block(units.axes, recurrence[1].old, recurrence[1].new))
    op.produce(units)
    op.grid(units.old)
    if directions > 1:
        op.keep(op.project(units, units.axes[:1]).old, f"is a direction of the {op.node.op}")
    for i in (5, 6):
        if op.has(i):
            _state(op, i, units)
    op.set_attr("hidden_size", units.new.shape[-1])
    final = _without_single(units)
    axes = (2, 3) if batch_first else (1, 3)
    whole = _without_single(Block(axes, units.old, units.new))
    labels: list[Label] = [(whole,), (final,), (final,)]
    return labels[: len(op.node.outputs)]


def _without_single(block: Block) -> Block:
    """With one direction only the units are left to distinguish."""
    return block if block.old.shape[0] > 1 else Block(block.axes[1:], block.old[0], block.new[0])


# ---------------------------------------------------------------- states


def _state(op: Op, i: int, units: Block) -> None:
    """Input `i` is a state from which the layer starts: it has the units of the layer.

    One of zeros is what the layer starts from without it, so it is left out where widths change.
    """
    name = op.node.inputs[i]
    if _is_zero(op, name):
        if any(block.new.shape != block.old.shape for block in (units, *op.label(i))):
            op.omit(i)
        return
    given = _given(op.walk.graph, name)
    if given is not None and given not in op.walk.states:
        reason = f"starts from the graph's input '{given}', a state that the caller keeps"
        op.freeze([units, *op.label(i)], reason)
        return
    shape = op.shape(i)
    if shape is None:
        op.freeze(
            [units, *op.label(i)], f"the shape of a state of {op.node.op} is not known", op.known_shapes
        )
        return
    constant = op.is_constant(i)
    label = op.walk.declare(op.node, name, i, shape, [units.axes]) if constant else op.label(i)
    own = next((b for b in label if b.axes in (units.axes, units.axes[1:])), None)
    op.freeze([b for b in label if b is not own], f"enters {op.node.op} as a state")
    if own is None:
        op.freeze([units], f"meets '{name}', which has no removable channels", op.walk.lacking(name))
    elif own.axes == units.axes:
        op.join(units, op.walk.follow(op.node, own, units) if constant else own)
    else:
        for old, new in zip(units.old, units.new, strict=True):
            op.join(Block(own.axes, old, new), own)


def _given(graph: Graph, name: str) -> str | None:
    """The input of the graph that a tensor is taken out of, if it is."""
    if name in graph.inputs:
        return name
    made = graph.producer.get(name)
    if made is None or made.op not in _REARRANGING:
        return None
    sources = made.inputs if made.op == "Concat" else made.inputs[:1]
    return next((given for source in sources if (given := _given(graph, source)) is not None), None)


def _is_zero(op: Op, name: str) -> bool:
    """Whether a tensor is known to hold zeros, whatever its shape is."""
    graph, values = op.walk.graph, op.walk.facts.values
    if name in graph.constants or name in values:
        return not np.any(graph.array(name) if name in graph.constants else values[name])
    made = graph.producer.get(name)
    if made is None:
        return False
    if made.op == "ConstantOfShape":
        return not np.any(filling(made))
    sources = made.inputs if made.op == "Concat" else made.inputs[:1]
    return made.op in _REARRANGING and all(_is_zero(op, source) for source in sources)


# ---------------------------------------------------------------- cost


def recurrent_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Every step reads both weight matrices once for each sample."""
    steps = inputs[0][0] * inputs[0][1]
    return steps * (math.prod(inputs[1]) + math.prod(inputs[2]))


RULES: dict[str, Rule] = dict.fromkeys(_GATES, recurrent)
MACS = dict.fromkeys(_GATES, recurrent_macs)
