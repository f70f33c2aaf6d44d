"""LSTM, GRU and RNN: a hidden unit is its row in every gate and its column in the recurrence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..graph import Node, Shape
from .label import Block, Label
from .op import Op, Rule
from .record import CONSTANT, Letter

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


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

    def state(i: int) -> Sequence[Letter]:
        return ["b", "d", "h"] if batch_first else ["d", "b", "h"]

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
    operands += [(i, state(i)) for i in (5, 6) if op.has(i)]
    out: list[Letter] = ["b", "d", "h"] if batch_first else ["d", "b", "h"]
    label = op.combine(operands, out, views)
    units = next((b for b in label if out.index("h") in b.axes), None)
    if units is None:
        return [()] * len(op.node.outputs)
    if len(recurrence) > 1:
        op.join(units, Block(units.axes, recurrence[1].old, recurrence[1].new))
    op.produce(units)
    if len(units.axes) > 1:
        op.grid(units.old)
    op.set_attr("hidden_size", units.new.shape[-1])
    final = _without_single(units, out.index("d"))
    sequence_axes = (2, 3) if batch_first else (1, 3)
    whole = _without_single(Block(sequence_axes, units.old, units.new), sequence_axes[0])
    labels: list[Label] = [(whole,), (final,), (final,)]
    return labels[: len(op.node.outputs)]


def _without_single(block: Block, direction: int) -> Block:
    """With one direction only the units are left to tell apart."""
    if len(block.axes) == 1 or block.old.shape[0] > 1:
        return block
    return Block(tuple(a for a in block.axes if a != direction), block.old[0], block.new[0])


def recurrent_macs(node: Node, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Every step reads both weight matrices once for each sample."""
    steps = inputs[0][0] * inputs[0][1]
    return steps * (math.prod(inputs[1]) + math.prod(inputs[2]))


RULES: dict[str, Rule] = dict.fromkeys(_GATES, recurrent)
MACS = dict.fromkeys(_GATES, recurrent_macs)
