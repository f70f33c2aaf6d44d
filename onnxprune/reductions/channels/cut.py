"""Surgery: walk again with the units that stay, and take from every weight what arrives at it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...graph import Array, Facts, Graph, Shape
from ...ops import RULES
from ...ops.label import Label, locate
from ...ops.op import Rule
from ...ops.record import ConstantLabel, Record, Selection
from ...ops.walk import Walk
from ...types import Mask
from .analysis import Analysis


def recorded(
    graph: Graph, facts: Facts, analysis: Analysis, kept: Mask, rules: Mapping[str, Rule] = RULES
) -> tuple[Graph, Record]:
    """A copy of the graph without the units that are not kept, and what the walk has recorded.

    Args:
        graph: the graph that was analysed.
        facts: the facts it was analysed with.
        analysis: its analysis.
        kept: (analysis.count,), whether each unit stays.
        rules: operator -> rule.

    Raises:
        Inconsistent: what is left would not fit together.
    """
    stays = Selection(kept[analysis.unit], analysis.unit)
    walk = Walk(graph, facts, rules, stays, approximate=analysis.approximate, states=analysis.states)
    record = walk.run()
    _edit_constants(graph, record)
    return graph.edited(record.edits), record


def _edit_constants(graph: Graph, record: Record) -> None:
    by_name: dict[str, list[ConstantLabel]] = {}
    for found in record.constants.values():
        by_name.setdefault(found.name, []).append(found)
    for name, uses in by_name.items():
        changed = [u for u in uses if any(b.new.size != b.old.size for b in u.label)]
        if not changed:
            continue
        array = graph.array(name)
        if len(uses) == 1 and uses[0].untied is None and _is_only_use(graph, uses[0]):
            record.edits.constants[name] = taken(array, uses[0].view, uses[0].label)
            continue
        parts = [taken(array, found.view, found.label) for found in changed]
        if _is_cut_alike(graph, name, changed, parts):
            record.edits.constants[name] = parts[0]
            continue
        for found, part in zip(changed, parts, strict=True):
            if found.untied is not None:
                record.edits.folded[found.untied] = part
            elif found.use is not None:
                record.edits.literals[found.use] = part
            else:
                record.edits.constants[name] = part


def _is_cut_alike(graph: Graph, name: str, uses: list[ConstantLabel], parts: list[Array]) -> bool:
    """Whether all that read a constant go on reading the same: then it stays one, under its name."""
    wanted = {(node.index, i) for node, i in graph.readers[name]}
    if name in graph.outputs or wanted != {found.use for found in uses}:
        return False
    return all(part.tobytes() == parts[0].tobytes() for part in parts) and len({p.shape for p in parts}) == 1


def _is_only_use(graph: Graph, found: ConstantLabel) -> bool:
    alone = len(graph.readers[found.name]) == 1 and found.name not in graph.outputs
    return found.use is None or alone


def taken(array: Array, view: Shape, label: Label) -> Array:
    """The part of an array, seen in the shape `view`, that its new label names."""
    source = array.reshape(view)
    lengths = list(view)
    plain = all(len(b.axes) == 1 for b in label)
    for block in label:
        for axis, length in zip(block.axes, block.new.shape, strict=True):
            lengths[axis] = length
    if plain:
        for block in label:
            if block.new.size != block.old.size:
                source = source.take(locate(block.old, block.new), block.axes[0])
    else:
        source = source[_index(label, view, lengths)]
    return np.ascontiguousarray(source).reshape(_folded(array.shape, view, lengths))


def _index(label: Label, view: Shape, lengths: list[int]) -> tuple[Array, ...]:
    """An index array for each axis of the view; those of a grid depend on several axes of the result."""
    index = [
        np.arange(n).reshape([-1 if k == a else 1 for k in range(len(view))]) for a, n in enumerate(lengths)
    ]
    shared = [sum(a in b.axes for b in label) for a in range(len(view))]
    for block in label:
        places = np.unravel_index(locate(block.old, block.new), block.old.shape)
        for k, (axis, whole) in enumerate(zip(block.axes, places, strict=True)):
            alone = shared[axis] == 1
            place = whole if alone else np.moveaxis(whole, k, 0).reshape(whole.shape[k], -1)[:, 0]
            shape = [1] * len(view)
            for a, n in zip(block.axes if alone else (axis,), place.shape, strict=True):
                shape[a] = n
            index[axis] = place.reshape(shape)
    return tuple(index)


def _folded(shape: Shape, view: Shape, lengths: list[int]) -> Shape:
    """The new shape of an array whose view splits at most one of its axes in two."""
    if view == shape:
        return tuple(lengths)
    split = next(a for a in range(len(shape)) if (*view[:a], view[a] * view[a + 1], *view[a + 2 :]) == shape)
    return (*lengths[:split], lengths[split] * lengths[split + 1], *lengths[split + 2 :])
