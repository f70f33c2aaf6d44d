"""`obs`: what the consumers lose with a channel once all others make up for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh

from ..contracts.groups import Scores
from ..contracts.reduction import Reading
from ..contracts.stats import Need
from ..types import Floats, Units
from .base import Context, by_order, by_reading, require_samples


@dataclass(frozen=True, eq=False)
class Elimination:
    """Units in the order in which they go, and what is lost by then.

    Attributes:
        order: int64 (n,), indices into the group's units, the first to go first.
        loss: float64 (n + 1,), ascending from 0: `loss[k]` is the relative error of the consumers, summed
            over them, once the first k are gone and the weights of the others are solved again.
    """

    order: Units
    loss: Floats

    def kept(self, count: int) -> float:
        """The loss where `count` units are kept."""
        return float(self.loss[len(self.order) - count])


@dataclass(frozen=True)
class Obs:
    """Structured optimal brain surgeon: s_j = sum over consumers of ||W_j||^2 / [G^-1]_jj / E|W x|^2.

    Removing channel j from what a consumer reads, and solving its other weights again by least squares, costs
    W_j' ([G^-1]_jj)^-1 W_j, with G the covariance of what it reads (means go into its bias) and W_j all
    weights that meet j; j may be several channels, such as a head. Backward elimination: remove the
    cheapest, bring G^-1 and W up to date (`G^-1 -= g_j g_j' / [G^-1]_jj`), repeat. The score is the loss
    that j adds when it goes, never less than the one before.

    `batch`: at most this share of the units that are left goes in one step, before the others are looked at
    again. The loss of a step is exact for the whole batch; only the choice within it is not renewed.

    `damping`: added to G, relative to its mean diagonal, together with C / rows: so what few rows leave
    undetermined is not free.

    Source: Hassibi and Stork 1993, Second Order Derivatives for Network Pruning, equation 5, for all
    weights of a channel and the layer-wise error; C x C as kernel taps share G.
    """

    name: str = "obs"
    batch: float = 0.02
    damping: float = 1e-3
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 2)

        def score(units: int, read: list[Reading]) -> Floats:
            found = self.eliminated(units, read)
            return by_order(found.order, np.diff(found.loss))

        return by_reading(context, score)

    def eliminated(self, units: int, read: list[Reading]) -> Elimination:
        """Order and loss of the units of a group. `read`: what each of its consumers reads."""
        surgeons = [s for r in read if (s := _Surgeon.of(r, units, self.damping)) is not None]
        left = np.arange(units)
        order: list[int] = []
        loss = [0.0]
        while left.size:
            costs = np.zeros(units)
            for surgeon in surgeons:
                costs += surgeon.costs()
            going = left[np.argsort(costs[left], kind="stable")[: max(1, int(self.batch * left.size))]]
            together = sum(surgeon.remove(going) for surgeon in surgeons)
            share = costs[going] / (costs[going].sum() or 1.0)
            loss += (loss[-1] + together * np.cumsum(share)).tolist()
            order += going.tolist()
            left = np.setdiff1d(left, going)
        return Elimination(np.asarray(order, np.int64), np.asarray(loss))


class _Surgeon:
    """G^-1 and W W' of one consumer while its channels go."""

    def __init__(self, inverse: Floats, products: Floats, index: Units, units: int) -> None:
        self._inverse, self._products, self._index, self._units = inverse, products, index, units

    @classmethod
    def of(cls, read: Reading, units: int, damping: float) -> _Surgeon | None:
        """The state before anything goes; `None` for a consumer that computes nothing."""
        energy = read.energy
        width = len(read.units)
        level = float(np.trace(read.centred)) / width
        if energy <= 0 or level <= 0:
            return None
        damped = read.centred + (damping + width / read.rows) * level * np.eye(width)
        return cls(inverse(damped), read.weight @ read.weight.T / energy, read.units, units)

    def costs(self) -> Floats:
        """float64 (units,), what each unit alone would cost next; 0 for those this consumer doesn't read."""
        result = np.zeros(self._units)
        counts = np.bincount(self._index[self._index >= 0], minlength=self._units)
        single = counts[self._index] * (self._index >= 0) == 1
        alone = np.flatnonzero(single)
        result[self._index[alone]] = np.diagonal(self._products)[alone] / np.diagonal(self._inverse)[alone]
        for size in np.unique(counts[counts > 1]):
            chosen = np.flatnonzero(counts == size)
            places = np.argsort(
                np.where(np.isin(self._index, chosen), self._index, self._units), kind="stable"
            )
            blocks = places[: chosen.size * size].reshape(chosen.size, size)
            rows, columns = blocks[:, :, None], blocks[:, None, :]
            solved = np.linalg.solve(self._inverse[rows, columns], self._products[rows, columns])
            result[chosen] = np.trace(solved, axis1=1, axis2=2)
        return np.maximum(result, 0)

    def remove(self, units: Units) -> float:
        """Let the others take over what these did; returns what is lost."""
        gone = np.isin(self._index, units)
        if not gone.any():
            return 0.0
        kept = ~gone
        inner = self._inverse[np.ix_(gone, gone)]
        outer = self._inverse[np.ix_(kept, gone)]
        took = np.linalg.solve(inner, outer.T).T
        across, own = self._products[np.ix_(kept, gone)], self._products[np.ix_(gone, gone)]
        lost = float(np.trace(np.linalg.solve(inner, own)))
        cross = took @ across.T
        self._products = self._products[np.ix_(kept, kept)] - cross - cross.T + took @ own @ took.T
        self._inverse = self._inverse[np.ix_(kept, kept)] - took @ outer.T
        self._index = self._index[kept]
        return max(lost, 0.0)


def inverse(matrix: Floats) -> Floats:
    """The inverse of a positive definite matrix; where rounding made it indefinite, of its positive part."""
    try:
        return np.asarray(cho_solve(cho_factor(matrix), np.eye(len(matrix))))
    except np.linalg.LinAlgError:
        values, vectors = eigh(matrix)
        floor = values[-1] * 1e-12
        return np.asarray((vectors / np.maximum(values, floor)) @ vectors.T)
