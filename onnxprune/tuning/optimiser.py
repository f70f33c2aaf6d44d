"""How weights change: steps that are relative to the size of each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..contracts.finetuning import Optimiser
from ..graph import Array

_FIRST, _SECOND, _MOMENTUM = 0.9, 0.999, 0.9
_TINY = 1e-12
_LEAST = 0.1
"""A tensor of zeros moves as if it had this share of the size that tensors of its kind have."""

_USUAL = 0.95
"""How fast the usual length of gradients follows that of the last ones."""


def sizes(weights: Mapping[str, Array]) -> dict[str, float]:
    """The root mean square of each tensor; of one of zeros a part of what is usual.

    A graph whose normalisations are folded has weights of very different sizes: one step size for all moves
    some by much and others not at all.
    """
    found = {name: float(np.sqrt(np.square(w, dtype=np.float64).mean())) for name, w in weights.items()}
    floors = {}
    for vector in (True, False):
        kin = [size for name, size in found.items() if size > 0 and _is_vector(weights[name]) == vector]
        floors[vector] = _LEAST * float(np.median(kin)) if kin else _LEAST
    return {name: size if size > 0 else floors[_is_vector(weights[name])] for name, size in found.items()}


def _is_vector(array: Array) -> bool:
    return bool(sum(n > 1 for n in array.shape) <= 1)


def share(update: int, updates: int, warmup: int) -> float:
    """What of the first step the step of an update is: it grows, then falls as a half cosine.

    Source: Loshchilov and Hutter 2017, SGDR, equation 5, without restarts.

    Args:
        update: its number, from 0 on.
        updates: how many there will be.
        warmup: of these, while steps grow; never more than half.
    """
    warmup = min(warmup, updates // 2)
    grown = min(1.0, (update + 1) / (warmup + 1))
    return grown * 0.5 * (1 + math.cos(math.pi * update / updates))


@dataclass
class Stepper:
    """Takes steps, and remembers what it needs for the next.

    Adam: Kingma and Ba 2015, algorithm 1; weight decay apart from it, as Loshchilov and Hutter 2019. `sgd` is
    gradient descent with momentum whose step is relative to the usual length of the tensor's gradient. A step
    of either is as long, on average over a tensor, as `rate` times the size of the tensor (You et al. 2020,
    Large Batch Optimization for Deep Learning, with fixed sizes).

    Attributes:
        kind: which of them.
        sizes: of each tensor.
        decay: weight decay, relative to the step.
        clip: gradients longer than so many times their usual length are shortened; 0: never.
        first: means of gradients.
        second: means of their squares.
        usual: mean of the lengths of gradients.
        taken: how many steps.
    """

    kind: Optimiser
    sizes: Mapping[str, float]
    decay: float = 0.0
    clip: float = 0.0
    first: dict[str, Array] = field(default_factory=dict)
    second: dict[str, Array] = field(default_factory=dict)
    usual: float = 0.0
    taken: int = 0

    def take(self, weights: Mapping[str, Array], gradients: Mapping[str, Array], rate: float) -> None:
        """Change weights in place.

        Args:
            weights: by name.
            gradients: of each.
            rate: how far, relative to the size of each tensor.
        """
        self.taken += 1
        shortened = self._shortened(gradients)
        for name, weight in weights.items():
            gradient = gradients[name] * np.float32(shortened)
            way = self._adam(name, gradient) if self.kind == "adam" else self._momentum(name, gradient)
            change = rate * (self.sizes[name] * way + self.decay * weight)
            np.subtract(weight, change.astype(weight.dtype), out=weight)

    def _shortened(self, gradients: Mapping[str, Array]) -> float:
        """What gradients are multiplied by; lengths count each tensor by its size, as steps do."""
        squares = (
            float(np.square(g, dtype=np.float64).sum()) * self.sizes[n] ** 2 for n, g in gradients.items()
        )
        length = math.sqrt(sum(squares))
        usual = self.usual / (1 - _USUAL ** (self.taken - 1)) if self.taken > 1 else length
        factor = min(1.0, self.clip * usual / length) if self.clip and length > 0 else 1.0
        self.usual = _USUAL * self.usual + (1 - _USUAL) * length * factor
        return factor

    def _adam(self, name: str, gradient: Array) -> Array:
        first = self.first.setdefault(name, np.zeros_like(gradient))
        second = self.second.setdefault(name, np.zeros_like(gradient))
        first += (1 - _FIRST) * (gradient - first)
        second += (1 - _SECOND) * (np.square(gradient) - second)
        mean = first / (1 - _FIRST**self.taken)
        return np.asarray(mean / (np.sqrt(second / (1 - _SECOND**self.taken)) + _TINY))

    def _momentum(self, name: str, gradient: Array) -> Array:
        first = self.first.setdefault(name, np.zeros_like(gradient))
        first += (1 - _MOMENTUM) * (gradient - first)
        size = float(np.sqrt(np.square(gradient, dtype=np.float64).mean()))
        kept = self.second.setdefault(name, np.zeros(1, np.float64))
        kept += (1 - _SECOND) * (size**2 - kept)
        usual = math.sqrt(float(kept[0]) / (1 - _SECOND**self.taken))
        return np.asarray(first / (1 - _MOMENTUM**self.taken) / (usual + _TINY))
