"""`inbound-variance`: an input channel that contributes the same for every sample goes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Group, Scores
from ..contracts.reduction import ValueUnits
from ..contracts.stats import Need
from ..types import Floats
from .base import Context, by_filter, by_value, moments, require_samples


@dataclass(frozen=True)
class InboundVariance:
    """Variance over samples of the norm of a single kernel's output, v_ts = Var_n ||W_ts * X_s^(n)||_F.

    The paper drops kernels: of each filter t, the input channels s of least v_ts. A channel can go as a whole
    once no filter keeps it; so its score is the largest share of v_ts in any filter of any consumer,
    s_s = max_t v_ts / mean_s v_ts. `kernels` has v_ts itself. Consumers with groups are not looked at.

    Where single kernels are units, the score of one is v_ts / mean_s v_ts; where runs of filters share their
    channels, the mean over the run.

    Source: Polyak and Wolf 2015, Channel-Level Acceleration of Deep Face Representations, Inbound Pruning.
    """

    name: str = "inbound-variance"
    needs: frozenset[Need] = frozenset({"kernels"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        require_samples(context, 2)
        if isinstance(context.space, ValueUnits):
            return _of_kernels(context, context.space)
        instead = by_filter(context, lambda rows: np.asarray(np.linalg.norm(rows, axis=1)))
        found = self.kernels(context)
        result = []
        for group, norms in zip(context.groups, instead, strict=True):
            best = np.full(group.size, -1.0)
            for consumer in context.channels.consumers:
                units = context.channels.local(group, consumer)
                inside = units >= 0
                variance = found.get(consumer.node)
                if variance is None or not inside.any():
                    continue
                level = variance.mean(axis=1, keepdims=True)
                share = (variance / np.where(level > 0, level, 1)).max(axis=0)
                np.maximum.at(best, units[inside], share[inside])
            mean = float(best[best >= 0].mean()) if (best >= 0).any() else 1.0
            result.append(np.where(best >= 0, best / (mean or 1.0), norms))
        return tuple(result)

    def kernels(self, context: Context) -> dict[int, Floats]:
        """Index of each consumer -> float64 (T, S), v_ts of its kernels."""
        have = context.stats.moments if context.stats is not None else {}
        by_node = context.channels.consumers
        found = {c.node: moments(context, c.kernels).kernel_variance for c in by_node if c.kernels in have}
        if by_node and not found:
            moments(context, by_node[0].kernels)
        return found


def _of_kernels(context: Context, space: ValueUnits) -> Scores:
    def value(group: Group, weight: Floats) -> Floats:
        variance = moments(context, space.kernels(group)).kernel_variance
        level = variance.mean(axis=1, keepdims=True)
        shares = variance / np.where(level > 0, level, 1)
        each = weight.shape[2] * (len(weight) // group.runs)
        return np.broadcast_to(shares[:, :, None] / each, weight.shape)

    return by_value(context, space, value)
