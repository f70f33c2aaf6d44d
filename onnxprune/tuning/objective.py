"""What a network shall say: a loss graph for training, and what it is fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import UsageError
from ..execution.sessions import open_session
from ..gradients import Loss, cross_entropy, divergence, squared_error, weighted
from ..gradients.heads import Head, heads, taps
from ..graph import Array, Facts, Graph
from ..runtime import Session
from ..samples.core import batch_size


@dataclass(frozen=True, eq=False)
class Pairing:
    """A head of the network that learns, and the head of its teacher that it follows.

    Attributes:
        learns: the head that learns.
        follows: the tensor that is followed.
        scale: of squared errors: one over the variance of what is followed.
    """

    learns: Head
    follows: str
    scale: float


class Teacher:
    """What the original says, and how the student is held to it.

    Args:
        teacher: the original.
        student: the network that learns; outputs have the same names.
        examples: some inputs, to tell kinds and sizes of outputs by.

    Attributes:
        pairings: a head for each output of floating-point numbers.

    Raises:
        UsageError: their outputs differ, or none can be followed.
    """

    def __init__(self, teacher: Graph, student: Graph, examples: Sequence[Mapping[str, Array]]) -> None:
        if teacher.outputs != student.outputs or set(student.inputs) - set(teacher.inputs):
            reason = f"its inputs or outputs are not those of {teacher.where}"
            raise UsageError(reason, where=student.where, hint="give the model that it was made from")
        self._session: Session = open_session(teacher.tapped(taps(teacher)))
        learning = open_session(student.tapped(taps(student)))
        feeds, count = examples[0], batch_size(examples[0])
        own = heads(student, learning.run(feeds), count)
        said = [self._session.run(feeds) for feeds in examples]
        followed = heads(teacher, said[0], count)
        if [h.kind for h in own] != [h.kind for h in followed] or not own:
            raise UsageError("no output of it can be followed", where=teacher.where)
        found = []
        for head, other in zip(own, followed, strict=True):
            if head.shape != other.shape:
                reason = f"output '{head.tensor}' has shape {head.shape}, and the original's {other.shape}"
                raise UsageError(reason, where=student.where)
            values = np.concatenate([s[other.tensor].astype(np.float64).ravel() for s in said])
            variance = float(values.var())
            found.append(Pairing(head, other.tensor, 1 / variance if variance > 0 else 1.0))
        self.pairings = tuple(found)

    def loss(self, graph: Graph, facts: Facts) -> Loss:
        """The loss of the student: of each output the squared error, relative to its variance.

        Where a network ends in probabilities it is that of the logits, and the divergence of what they
        become: the divergence of a network that is sure says next to nothing, but it counts in the end.
        """
        terms: list[tuple[float, Loss]] = []
        for one in self.pairings:
            head = one.learns
            terms.append((1.0, squared_error(graph, facts, head.tensor, one.scale)))
            if head.kind != "values" and head.tensor not in graph.outputs:
                squash: Literal["sigmoid", "softmax"] = "sigmoid" if head.kind == "sigmoid" else "softmax"
                terms.append((1.0, divergence(graph, facts, head.tensor, squash, axis=head.axis)))
        return weighted([(w / len(self.pairings), loss) for w, loss in terms])

    def targets(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the loss is fed for a batch."""
        said = self._session.run(feeds)
        wide = {n: a if a.dtype == np.float64 else a.astype(np.float32, copy=False) for n, a in said.items()}
        return {f"{one.learns.tensor}.target": wide[one.follows] for one in self.pairings}


def of_labels(graph: Graph, facts: Facts, head: Head, labels: Array) -> tuple[Loss, str]:
    """The loss against labels, and the name under which it is fed these.

    Raises:
        UsageError: labels don't fit the output.
    """
    if labels.dtype.kind in "iu" and labels.ndim == 1 and head.is_classes:
        return cross_entropy(graph, facts, head.tensor), f"{head.tensor}.labels"
    if labels.dtype.kind == "f" and labels.shape[1:] == head.shape[1:] and head.kind == "values":
        variance = float(labels.var())
        return squared_error(graph, facts, head.tensor, 1 / max(variance, 1e-12)), f"{head.tensor}.target"
    reason = f"{labels.dtype} of shape {labels.shape[1:]} for each sample is neither a class of"
    raise UsageError(f"{reason} '{head.tensor}' nor values for it", where="--labels")
