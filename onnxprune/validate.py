"""The verdict, in two parts: the surgery is exact, and the drift is what it is.

Exactness knows nothing of rules: the pruned graph must compute what the original computes when every
reader of a removed channel reads zero there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from .fidelity import SQUASHED, are_probabilities, are_scores
from .graph import Array, Edits, Facts, Graph, is_floating, make_node
from .runtime import Session
from .sites import merged, spread, zero_point
from .types import Accuracy, Analysis, Drift, Mask, Units

Feeds = Mapping[str, Array]

EXACT = {"float16": 2e-2, "bfloat16": 2e-1}
"""Largest relative difference that rounding explains, by dtype of the output."""
EXACT_DEFAULT = 1e-3


def masked(graph: Graph, facts: Facts, analysis: Analysis, kept: Mask) -> Graph:
    """The original graph, reading zero wherever a removed unit is summed over."""
    edits = Edits()
    for index, reader in enumerate(analysis.readers):
        keep = kept[reader.place.units]
        if keep.all():
            continue
        name = graph.nodes[reader.node].inputs[reader.input]
        where = (reader.node, reader.input)
        mask = spread(keep, reader)
        zero = zero_point(graph, name) if reader.zero else np.zeros(())
        if name in graph.constants and zero is not None:
            array = edits.literals.get(where, graph.array(name))
            none = np.broadcast_to(zero.astype(array.dtype), array.shape)
            part = np.where(mask, array.reshape(reader.view), none.reshape(reader.view))
            edits.literals[where] = part.reshape(array.shape)
            continue
        current = edits.rewire.get(where, name)
        fresh = f"{name}.masked{index}"
        edits.added[f"{fresh}.mask"] = merged(mask, reader, facts.shapes[name] or ())
        if not reader.zero:
            edits.added[f"{fresh}.zero"] = np.zeros((), facts.dtypes[name])
        node = make_node("Where", [f"{fresh}.mask", current, reader.zero or f"{fresh}.zero"], [fresh], fresh)
        edits.before.setdefault(reader.node, []).append(node)
        edits.rewire[where] = fresh
    return graph.edited(edits)


def relative_error(expected: Array, actual: Array, least: float = 0.0) -> float:
    """Largest difference, relative to the largest expected magnitude; infinite where they don't compare.

    Args:
        expected: what should be.
        actual: what is.
        least: a magnitude that counts for this much at least.
    """
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return float("inf")
    if not expected.size:
        return 0.0
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.abs(a[finite]).max()), least) or 1.0
    return float(np.abs(a[finite] - b[finite]).max()) / scale


def surgery_error(
    original: Session, pruned: Session, feeds: Feeds, squashed: Collection[str] = ()
) -> tuple[float, bool]:
    """How far the pruned graph is from the masked original.

    Args:
        original: the masked original.
        pruned: the pruned graph, before any repair.
        feeds: real or random inputs.
        squashed: outputs that a Softmax or Sigmoid gives; what it is taken of should be an output as well.

    Returns:
        The largest relative error of any output, and whether rounding explains all of them.
    """
    expected, actual = original.run(feeds), pruned.run(feeds)
    worst, exact = 0.0, True
    for name, value in expected.items():
        if value.dtype.kind not in "fiub" and value.dtype.name not in EXACT:
            continue
        error = relative_error(value, actual[name], SQUASHED if name in squashed else 0.0)
        worst = max(worst, error)
        exact = exact and error <= EXACT.get(value.dtype.name, EXACT_DEFAULT)
    return worst, exact


def drift(original: Session, pruned: Session, batches: Iterable[Feeds]) -> Drift:
    """How far outputs move on samples: relative Frobenius error, and agreement of the top class.

    Top-1 is given for outputs that look like class scores: floating point, (samples, classes), or
    probabilities along the last axis, for each position.
    """
    squared: dict[str, float] = {}
    norm: dict[str, float] = {}
    agree: dict[str, list[int]] = {}
    samples = 0
    for feeds in batches:
        expected, actual = original.run(feeds), pruned.run(feeds)
        samples += len(next(iter(feeds.values())))
        for name, a in expected.items():
            b = actual[name]
            if not is_floating(a.dtype):
                continue
            if a.shape != b.shape:
                squared[name], norm[name] = float("inf"), 1.0
                continue
            x, y = a.astype(np.float64), b.astype(np.float64)
            squared[name] = squared.get(name, 0.0) + float(np.square(x - y).sum())
            norm[name] = norm.get(name, 0.0) + float(np.square(x).sum())
            if (a.ndim == 2 and a.shape[1] > 1) or are_probabilities(a):
                equal = x.argmax(axis=-1) == y.argmax(axis=-1)
                same = agree.setdefault(name, [0, 0])
                same[0] += int(equal.sum())
                same[1] += equal.size
    relative = {
        n: float(np.sqrt(s / norm[n])) if norm[n] > 0 else float(np.sqrt(s)) for n, s in squared.items()
    }
    top1 = {n: same / total for n, (same, total) in agree.items() if total}
    return Drift(samples, relative, top1)


def accuracy(session: Session, batches: Iterable[tuple[Feeds, Array]]) -> Accuracy:
    """Share of labelled samples whose largest class score is that of their label; see `top_classes`."""
    right = total = 0
    for feeds, labels in batches:
        classes = top_classes(session, [feeds])
        if classes is None:
            break
        right += int((classes == labels).sum())
        total += len(labels)
    return Accuracy(right, total)


def top_classes(session: Session, batches: Iterable[Feeds]) -> Units | None:
    """The class of the largest score of each sample: int64 (samples,); `None` without class scores.

    They are the first output of floating point of shape (samples, classes) with several classes; axes of
    length 1 may follow.
    """
    found = []
    for feeds in batches:
        count = next((len(a) for a in feeds.values() if a.ndim), 0)
        scores = next((o for o in session.run(feeds).values() if are_scores(o, count)), None)
        if scores is None:
            return None
        found.append(scores.reshape(count, -1).argmax(axis=1))
    return np.concatenate(found) if found else None
