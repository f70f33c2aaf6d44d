"""Fine-tuning without a framework: a network learns what the original says, or labels, or both.

In: a network, what it shall say (`objective`), samples. Out: a `Finetuned`, never worse than the start on
samples that nothing was fitted to.

- `trainable`: what of a network can change;
- `deck`: samples in their order, changed at random (`augment`); `referee`: who judges;
- `loop`: updates, the best state, the range test; `optimiser`: steps; `checkpoint`: where a run is;
- `pull`: a penalty that grows on what shall go.
"""

from __future__ import annotations

from ..contracts.finetuning import FinetuneOptions
from .deck import Deck
from .loop import Lessons, finetuned, pulled
from .objective import Teacher, of_labels
from .pull import Pull
from .referee import Both, OfLabels, OfOutputs, Referee
from .trainable import Trainable, trainable

__all__ = [
    "Both",
    "Deck",
    "FinetuneOptions",
    "Lessons",
    "OfLabels",
    "OfOutputs",
    "Pull",
    "Referee",
    "Teacher",
    "Trainable",
    "finetuned",
    "of_labels",
    "pulled",
    "trainable",
]
