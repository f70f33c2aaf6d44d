"""How far outputs move, and how many answers are right."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..contracts.verdict import Accuracy, Drift
from ..graph import Array, is_floating
from ..runtime import Feeds, Session
from ..types import Units
from .loss import are_probabilities, are_scores


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
        samples += next((len(array) for array in feeds.values() if array.ndim), 1)
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
