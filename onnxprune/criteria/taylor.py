"""`taylor`: what the network's own loss feels of a channel, to first order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from ..contracts.analysis import Analysis, ChannelGroup, Reader
from ..contracts.groups import Scores
from ..contracts.stats import Need
from ..errors import UsageError
from ..execution.prefix import Prefix, Shelf, behind
from ..execution.sessions import open_session
from ..graph import Array, Edits, Facts, Graph, infer, is_floating, make_node
from ..quality.loss import are_scores, squashed
from ..reductions.channels.sites import hands_on, merged, spread
from ..types import Floats, Units
from .base import Context

_UNIT = "onnxprune.gate.unit"
_GATES = {dtype: f"onnxprune.gate.{dtype}" for dtype in ("float16", "float32", "float64")}
"""Inputs of gated graphs: which unit, and its gate in each dtype."""

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
        graph, analysis = context.graph, context.analysis
        facts = context.facts or infer(graph)
        gates = [_gated(graph, facts, analysis, group, where) for group in analysis.groups]
        batches = list(context.samples.some(self.samples, context.seed).batches())
        loss = _Loss(graph, batches)
        units = sum(group.size for group in analysis.groups)
        if units * loss.seconds > self.seconds:
            reason = f"{units} channels, two runs for each, would take about {units * loss.seconds:.0f} s"
            hint = "use obs; from Python, Taylor(seconds=...) has time"
            raise UsageError(reason, where=where, hint=hint)
        found = [np.zeros(group.size) for group in analysis.groups]
        with closing(Shelf(_KEPT)) as shelf:
            prefix = Prefix(batches, shelf)
            for index in sorted(range(len(gates)), key=lambda g: gates[g][0]):
                start, gated = gates[index]
                prefix.reach(graph, start)
                taps = behind(graph, loss.taps, start)
                if taps:
                    given = _given(analysis.groups[index], self.step)
                    slopes = loss.differences(prefix.probe(gated, taps, given), len(given))
                    found[index] = np.abs(slopes / (2 * self.step)).mean(axis=1)
        return tuple(found)


def _given(group: ChannelGroup, step: float) -> list[Mapping[str, Array]]:
    """For each unit in turn its gate a little wider, and a little narrower."""
    values = [{name: np.asarray(1 + s * step, dtype) for dtype, name in _GATES.items()} for s in (1, -1)]
    return [{_UNIT: np.asarray(unit, np.int64), **gate} for unit in group.units for gate in values]


def _gated(
    graph: Graph, facts: Facts, analysis: Analysis, group: ChannelGroup, where: str
) -> tuple[int, Graph]:
    """The index of the first node that reads a group, and the graph with a unit and its gate as inputs.

    Raises:
        UsageError: a reader takes integers.
    """
    edits, first = Edits(), len(graph.nodes)
    for index, reader in enumerate(analysis.readers):
        units = reader.place.units
        if hands_on(reader) or not np.isin(units, group.units).any():
            continue
        first = min(first, reader.node)
        at = (reader.node, reader.input)
        name = graph.nodes[reader.node].inputs[reader.input]
        constant = name in graph.constants
        dtype = graph.array(name).dtype if constant else facts.dtypes[name]
        if reader.zero or dtype.name not in _GATES:
            reason = (
                f"'{graph.nodes[reader.node].name}' reads '{group.name}' as {dtype}: too coarse for slopes"
            )
            raise UsageError(reason, where=where, hint=f"use obs, or leave it out with --keep '{group.name}'")
        fresh = f"{name}.gated{index}"
        edits.added[f"{fresh}.units"] = _over(spread(units, reader), reader, graph, facts, name)
        edits.added[f"{fresh}.one"] = np.ones((), dtype)
        edits.before.setdefault(reader.node, []).extend(
            make_node(op, inputs, [output], output)
            for op, inputs, output in (
                ("Equal", [f"{fresh}.units", _UNIT], f"{fresh}.is"),
                ("Where", [f"{fresh}.is", _GATES[dtype.name], f"{fresh}.one"], f"{fresh}.factor"),
                ("Mul", [edits.rewire.get(at, name), f"{fresh}.factor"], fresh),
            )
        )
        edits.rewire[at] = fresh
    return first, graph.edited(edits)


def _over(units: Units, reader: Reader, graph: Graph, facts: Facts, name: str) -> Units:
    if name not in graph.constants:
        return merged(units, reader, facts.shapes[name] or ())
    shape = graph.shape_of_constant(name)
    return units if shape == reader.view else np.broadcast_to(units, reader.view).reshape(shape)


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
