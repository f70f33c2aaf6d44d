"""What a loss feels of each unit: its gradients at gates, sample by sample, added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..contracts.gates import GatedGroup, WantedGates
from ..contracts.lesson import Lesson, Pair
from ..contracts.stats import Slopes
from ..errors import Infeasible, UsageError
from ..gradients import Gate, Loss, Runner, backward, custom, linear
from ..graph import Array, Graph, Network, input_specs
from ..samples.core import batch_size
from ..types import Floats
from .aim import Aim
from .meter import digests


def sloped(
    network: Network,
    wanted: WantedGates,
    lesson: Lesson,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Slopes]:
    """Gradients of a loss at gates, added up over samples.

    One run gives the gradients of all gates for all samples of a batch. The second derivative needs no second
    backward pass: that of a divergence from what a network says is Jᵀ H J at a gate, with H = F Fᵀ of the
    outputs alone in closed form; so it is the sum of (Jᵀ F e)² over directions e.

    Args:
        network: the network.
        wanted: the gates.
        lesson: the loss, and samples.
        progress: told how many samples are done.

    Returns:
        id of a group -> its sums.

    Raises:
        Infeasible: a group is read by a node that can't be differentiated.
        UsageError: labels don't fit the outputs, or the loss doesn't fit the network.
        InputError: there is no sample, or one doesn't fit the model.
    """
    alone = lesson.loss is not None or not all(
        site.by_sample for group in wanted.groups.values() for site in group.sites
    )
    pairs = _Pairs(network.graph, lesson, alone=alone)
    given = _custom if lesson.loss is not None else _of_outputs
    sums = [_Sum(group) for group in wanted.groups.values()]
    for done in given(network, wanted, lesson, pairs, sums):
        progress(done)
    return {key: one.slopes for key, one in zip(wanted.groups, sums, strict=True)}


class _Pairs:
    """Samples and labels, one by one where a batch can't be told apart into samples.

    Args:
        graph: the network.
        lesson: the samples.
        alone: they can't be told apart.
    """

    def __init__(self, graph: Graph, lesson: Lesson, *, alone: bool) -> None:
        self._pairs = lesson.pairs
        fixed = any(not s.shape or isinstance(s.shape[0], int) for s in input_specs(graph))
        self._apart = alone and not fixed

    def __iter__(self) -> Iterator[Pair]:
        for feeds, labels in self._pairs:
            count = batch_size(feeds)
            if not self._apart or count == 1:
                yield feeds, labels
                continue
            for k in range(count):
                one = {n: a[k : k + 1] for n, a in feeds.items()}
                yield one, None if labels is None else labels[k : k + 1]


class _Sum:
    """Sums of one group."""

    def __init__(self, group: GatedGroup) -> None:
        self.group = group
        self.slopes = Slopes()

    def add(self, slopes: Floats, *, labelled: bool) -> None:
        """Add first derivatives: float64 (samples, units)."""
        found = self.slopes
        self.slopes = replace(
            found,
            samples=found.samples + len(slopes),
            sum=_plus(found.sum, slopes),
            magnitude=_plus(found.magnitude, np.abs(slopes)),
            squares=_plus(found.squares, slopes**2),
            labelled=labelled,
        )

    def bend(self, curvature: Floats) -> None:
        """Add second derivatives, of the samples that were added last: float64 (samples, units)."""
        self.slopes = replace(self.slopes, curvature=_plus(self.slopes.curvature, curvature))


def _plus(total: Floats | None, more: Floats) -> Floats:
    added = np.asarray(more.sum(0))
    return added if total is None else total + added


class GateRunner:
    """Runs the graph with gradients at all gates.

    Args:
        network: the network.
        loss: what is differentiated.
        groups: the gates.

    Raises:
        Infeasible: one can't be differentiated.
    """

    def __init__(self, network: Network, loss: Loss, groups: Sequence[GatedGroup]) -> None:
        self._groups = groups
        self.dtypes = {name: loss.facts.dtypes[name] for name in loss.targets}
        gates = [
            Gate(site.tensor, site.axes, site.reader, site.by_sample)
            for group in self._groups
            for site in group.sites
        ]
        try:
            gradient = backward(
                network.graph, network.facts, loss, [], gates=gates, reduction="sum", frozen=True
            )
        except (Infeasible, UsageError) as error:
            hint = "choose a criterion that needs no gradients, or --keep what it is about"
            raise Infeasible(error.reason, where=error.where, hint=hint) from None
        self._runner = Runner(gradient)

    def run(self, feeds: Mapping[str, Array]) -> list[Floats]:
        """For each group float64 (samples, units)."""
        given = {n: a.astype(self.dtypes[n]) if n in self.dtypes else a for n, a in feeds.items()}
        values = iter(self._runner.step(given).gates)
        found = []
        for group in self._groups:
            total = np.zeros((1, group.size))
            for site in group.sites:
                value = next(values).astype(np.float64)
                rows = value.reshape(len(value) if site.by_sample else 1, -1)
                units = site.units.ravel()
                mine = units >= 0
                part = np.zeros((group.size, len(rows)))
                np.add.at(part, units[mine], rows[:, mine].T)
                total = total + part.T
            found.append(total)
        return found


def _of_outputs(
    network: Network, wanted: WantedGates, lesson: Lesson, pairs: _Pairs, sums: Sequence[_Sum]
) -> Iterator[int]:
    """Cross entropies, squared errors and divergences; yields how many samples are done."""
    aim, groups = Aim(network.graph, pairs), [one.group for one in sums]
    gates = GateRunner(network, linear(network.graph, network.facts, *aim.tensors), groups)
    done = 0

    def run(feeds: Mapping[str, Array], seeds: Mapping[str, Floats]) -> list[Floats]:
        return gates.run({**feeds, **{f"{name}.target": seed for name, seed in seeds.items()}})

    for feeds, labels in pairs:
        said = aim.said(feeds)
        for one, value in zip(sums, run(feeds, aim.slope(said, labels)), strict=True):
            one.add(value, labelled=labels is not None)
        if "curvature" in wanted.orders:
            bent = [np.zeros(1)] * len(sums)
            for share, seeds in aim.ways(said, digests(feeds, lesson.seed), labelled=labels is not None):
                found = run(feeds, seeds)
                bent = [b + share * value**2 for b, value in zip(bent, found, strict=True)]
            for one, value in zip(sums, bent, strict=True):
                one.bend(value)
        done += batch_size(feeds)
        yield done


def _custom(
    network: Network, wanted: WantedGates, lesson: Lesson, pairs: _Pairs, sums: Sequence[_Sum]
) -> Iterator[int]:
    """A loss that is a graph: first derivatives alone; yields how many samples are done."""
    del wanted
    if lesson.loss is None:
        raise ValueError("there is no loss")
    loss = custom(network.graph, network.facts, lesson.loss)
    where, groups = lesson.loss.where, [one.group for one in sums]
    if len(loss.targets) > 1:
        reason = f"reads {', '.join(loss.targets)} beside outputs of the network: at most one can be labels"
        raise UsageError(reason, where=where)
    gates = GateRunner(network, loss, groups)
    done = 0
    for feeds, labels in pairs:
        if loss.targets and labels is None:
            raise UsageError(f"reads '{loss.targets[0]}', and there are no labels", where=where)
        targets = {name: labels for name in loss.targets if labels is not None}
        for one, value in zip(sums, gates.run({**feeds, **targets}), strict=True):
            one.add(value, labelled=True)
        done += batch_size(feeds)
        yield done
