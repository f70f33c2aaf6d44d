"""`taylor`: what the network's own loss feels of a channel, to first order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ..contracts.gates import GATES, UNIT
from ..contracts.groups import Group, Scores
from ..contracts.stats import Need
from ..errors import UsageError
from ..execution.prefix import ActivationStore, Prefix, behind
from ..execution.sessions import open_session
from ..graph import Array, Graph, is_floating
from ..quality.loss import are_scores, squashed
from ..types import Floats, Units
from .base import Context

_KEPT = 2e9
"""Bytes of activations to hold in memory."""


@dataclass(frozen=True)
class Taylor:
    """First-order Taylor expansion of the loss at a gate, s_j = E_n |dL_n / dg_j|.

    The gate g_j = 1 multiplies unit j wherever it is summed over together with others, at all its readers at
    once (a depthwise convolution hands it on): at g_j = 0 the unit is removed as the proof of the surgery has
    it. As g_j multiplies x_j, dL/dg_j = sum of dL/dx_j x_j. The absolute value is taken of each sample, then
    their mean.

    L_n is the cross-entropy of a sample against the network's own top class, if it gives class scores, of
    what a last Softmax is taken of; else half the squared norm of its outputs, each relative to its mean over
    samples. Labels are not looked at: those of `--labels` judge the result, so nothing may be chosen by them.

    ONNX Runtime has no gradients, so these are central differences, (L(1 + h) - L(1 - h)) / 2h. Their error
    is h^2 / 6 times the third derivative, besides ReLUs that switch within h, and rounding of L / h. That is
    two runs for each unit of what lies behind its group's first reader; what lies before is run once.

    `samples`: how many to run, drawn by the seed; those that the network is not sure of decide, so a few tell
    little. `step`: h; a power of 2, so that 1 + h is exact; float32 leaves 2^-6 to 2^-9 equally good.
    `seconds`: with more to do than can be done in about that time, it refuses.

    Of the statistics nothing is used here: they let groups be measured, as for other criteria of samples.

    Source: Molchanov et al. 2017, Pruning Convolutional Neural Networks, equations 6 and 7 (without the mean
    over positions, and equation 8 that divides by the norm of a layer); as a gate in Molchanov et al. 2019,
    Importance Estimation for Neural Network Pruning, where it is squared.

    Raises:
        UsageError: there are no samples, it would take too long, or a group is read as integers.
    """

    name: str = "taylor"
    samples: int = 64
    step: float = 2**-7
    seconds: float = 3600.0
    needs: frozenset[Need] = frozenset({"consumers"})

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        where = f"--criterion {self.name}"
        if context.samples is None:
            hint = "give --calib (statistics alone are not enough), or use l1"
            raise UsageError("this criterion runs samples, and there are none", where=where, hint=hint)
        graph, groups = context.graph, context.groups
        gates = [context.channels.gated(group) for group in groups]
        for group, gate in zip(groups, gates, strict=True):
            if gate.coarse is not None:
                node, dtype = gate.coarse
                reason = f"'{node}' reads '{group.name}' as {dtype}: too coarse for slopes"
                hint = f"use obs, or leave it out with --keep '{group.name}'"
                raise UsageError(reason, where=where, hint=hint)
        batches = list(context.samples.some(self.samples, context.seed).batches())
        loss = _Loss(graph, batches)
        units = sum(group.size for group in groups)
        if units * loss.seconds > self.seconds:
            reason = f"{units} channels, two runs for each, would take about {units * loss.seconds:.0f} s"
            hint = "use obs; from Python, Taylor(seconds=...) has time"
            raise UsageError(reason, where=where, hint=hint)
        found = [np.zeros(group.size) for group in groups]
        with closing(ActivationStore(_KEPT)) as store:
            prefix = Prefix(batches, store)
            for index in sorted(range(len(gates)), key=lambda g: gates[g].start):
                start, gated = gates[index].start, gates[index].graph
                prefix.reach(graph, start)
                taps = behind(graph, loss.taps, start)
                if taps:
                    given = _given(groups[index], self.step)
                    slopes = loss.differences(prefix.probe(gated, taps, given), len(given))
                    found[index] = np.abs(slopes / (2 * self.step)).mean(axis=1)
        return tuple(found)


def _given(group: Group, step: float) -> list[Mapping[str, Array]]:
    """For each unit in turn its gate a little wider, and a little narrower."""
    values = [{name: np.asarray(1 + s * step, dtype) for dtype, name in GATES.items()} for s in (1, -1)]
    return [{UNIT: np.asarray(unit, np.int64), **gate} for unit in range(group.size) for gate in values]


class _Loss:
    """What a network loses on samples if its answers so far are right, sample by sample.

    Args:
        graph: the network.
        batches: its inputs.

    Attributes:
        taps: the tensors that it is computed from.
        seconds: how long the network takes for all batches.
    """

    def __init__(self, graph: Graph, batches: Sequence[Mapping[str, Array]]) -> None:
        candidates = [t for output in graph.outputs for t in (*squashed(graph, output), output)]
        session = open_session(graph.tapped(tuple(dict.fromkeys(candidates))))
        session.run(batches[0])
        started = time.perf_counter()
        outputs = [session.run(feeds) for feeds in batches]
        self.seconds = time.perf_counter() - started
        counts = [next((len(a) for a in feeds.values() if a.ndim), 1) for feeds in batches]
        score = next((t for t in candidates if are_scores(outputs[0][t], counts[0])), None)
        self._classes: list[Units] | None = None
        if score is not None:
            self.taps: tuple[str, ...] = (score,)
            self._classes = [_rows(o[score], n).argmax(axis=1) for o, n in zip(outputs, counts, strict=True)]
        else:
            self.taps = tuple(o for o in graph.outputs if is_floating(outputs[0][o].dtype))
        norms = {t: sum(float(np.square(_rows(o[t], 1)).sum()) for o in outputs) for t in self.taps}
        self._scale = {t: sum(counts) / norm if norm > 0 else 0.0 for t, norm in norms.items()}
        self._counts = counts

    def differences(self, outputs: Iterable[Mapping[str, Array]], each: int) -> Floats:
        """float64 (each / 2, rows), what is lost more with the first of two answers than with the second.

        Args:
            outputs: values of taps, `each` times for every batch; absent ones have not changed.
            each: an even number.
        """
        values, found = iter(outputs), []
        for batch in range(len(self._counts)):
            losses = np.asarray([self._of(next(values), batch) for _ in range(each)])
            found.append(losses[0::2] - losses[1::2])
        return np.concatenate(found, axis=1)

    def _of(self, outputs: Mapping[str, Array], batch: int) -> Floats:
        count = self._counts[batch]
        if self._classes is not None:
            (scores,) = (_rows(a, count) for a in outputs.values())
            own = np.take_along_axis(scores, self._classes[batch][:, None], axis=1)
            # log(1 + sum of exp) over the other classes keeps digits where the network is sure.
            ahead = scores - own
            np.put_along_axis(ahead, self._classes[batch][:, None], -np.inf, axis=1)
            return np.asarray(np.logaddexp(0, np.logaddexp.reduce(ahead, axis=1)))
        total = np.zeros(count)
        for name, a in outputs.items():
            squares = np.square(_rows(a, count if a.ndim and len(a) == count else 1)).sum(axis=1)
            total += squares * self._scale[name] / 2
        return total


def _rows(a: Array, count: int) -> Floats:
    return a.astype(np.float64).reshape(count, -1)
