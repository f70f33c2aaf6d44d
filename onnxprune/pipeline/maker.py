"""Candidates of one phase: cut, repaired, and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from ..contracts.cut import without
from ..contracts.groups import Choice
from ..contracts.maker import Candidate
from ..contracts.reduction import CannotCut, ChannelUnits, Cut, Space, Trace
from ..contracts.repaired import Repaired
from ..contracts.traces import Chained, Unchanged
from ..contracts.verdict import Omission
from ..conversions import Packing, dequantized, unpacked
from ..graph import Network
from ..ops import quant
from ..quality.loss import Judge
from ..repair import Task, fitted, from_statistics, from_weights
from ..repair.fitted import fitted_layers
from ..rewrites import Widened, widened
from ..samples import Samples
from .evidence import Evidence
from .load import Loaded
from .options import Options

FITTED, JUDGED = 2048, 256
"""Samples that weights are fitted to, and that a repair is judged on, at the most: time grows with them."""


class CandidateMaker:
    """Cuts and repairs choices among the units of one network (see `contracts.maker.Maker`).

    Args:
        loaded: the model, whose outputs are aimed at.
        base: the network that is cut.
        before: from the network that the model was rewritten to, to `base`.
        spaces: units of `base`, in the order in which they are cut.
        find: finds the units of another network, for repairs that add layers.
        evidence: what is known of `base`.
        options: how weights are repaired.
        progress: called with how far it is.
    """

    def __init__(
        self,
        loaded: Loaded,
        base: Network,
        before: Trace,
        spaces: Sequence[Space],
        find: Callable[[Network], Space],
        evidence: Evidence,
        options: Options,
        progress: Callable[[str], None],
    ) -> None:
        self.base, self.spaces = base, tuple(spaces)
        self._loaded, self._before, self._find = loaded, before, find
        self._evidence, self._options, self._progress = evidence, options, progress
        self._cuts: _Remembered[Cut] = _Remembered(options.memory)
        self._candidates: _Remembered[Candidate] = _Remembered(options.memory)

    def cut(self, choice: Choice) -> Cut:
        """See `Maker.cut`."""
        return self._cuts.get(choice, lambda: without(self.base, self.spaces, choice))

    def candidate(self, choice: Choice) -> Candidate:
        """See `Maker.candidate`."""
        return self._candidates.get(choice, lambda: self._repaired(self.cut(choice)))

    def quietly(self) -> CandidateMaker:
        """The same, without progress; what is remembered is shared."""
        other = CandidateMaker.__new__(CandidateMaker)
        other.__dict__.update(self.__dict__)
        other._progress = _silent
        return other

    @cached_property
    def _judge(self) -> Judge:
        samples = self._evidence.choose
        if samples is None:
            raise ValueError("there are no samples to judge on")
        batches = samples.first(JUDGED).batches(self._options.batch)
        return Judge(self._loaded.graph, batches)

    @cached_property
    def _fit(self) -> Samples:
        samples = self._evidence.fit
        if samples is None:
            raise ValueError("there are no samples to fit to")
        return samples.some(FITTED, self._options.seed)

    def _repaired(self, cut: Cut) -> Candidate:
        mode = self._options.repair
        if mode == "none" or cut.choice.removes_nothing():
            return Candidate(cut, Repaired(cut.network, "none"))
        self._progress("Repairing weights")
        floats, packing = unpacked(cut.network)
        task = Task(cut, self._loaded.network, floats, self._total(cut), self._loaded.normals)
        kind, lacking = self._evidence.best("repair", ("samples", "statistics", "weights"))
        omitted = () if lacking is None else (lacking,)
        if kind == "samples":
            return self._fitted(task, packing)
        if mode == "reuse":
            hint = "give --calib, or choose another --repair"
            omitted = (Omission("repair 'reuse'", "needs samples: weights are folded instead", hint),)
        if kind == "statistics" and self._evidence.stats is not None:
            # Sums are of what the cut network reads: layers of integers are given integers.
            floats, packing = dequantized(cut.network)
            own = replace(task, network=floats)
            found = from_statistics(own, mode, self._evidence.stats, packing.packed)
            return Candidate(cut, found, omitted=omitted)
        merged = from_weights(task, mode, packing.packed)
        if merged is None:
            omitted = (Omission("repair", "left out, as there are no samples", "give --calib"),)
            merged = Repaired(cut.network, "none")
        return Candidate(cut, merged, omitted=omitted)

    def _total(self, cut: Cut) -> Trace:
        return cut.trace if isinstance(self._before, Unchanged) else Chained(self._before, cut.trace)

    def _fitted(self, task: Task, packing: Packing) -> Candidate:
        """Repaired on samples: with layers that restore channels where that is asked for, or else without."""
        cut, mode = task.cut, self._options.repair
        attempts = [] if mode == "bias" else [("fold", task, packing.packed)]
        attempts.append(("bias", task, packing.packed))
        wide = self._widened(task) if mode in ("reuse", "auto") else None
        if wide is not None:
            found, other = wide
            floats, codes = unpacked(other.network)
            own = Task(other, found.network, floats, other.trace, task.normals)
            attempts.insert(0, ("reuse", own, codes.packed))
        index, repaired = fitted(
            cut.network,
            attempts,
            self._fit.batches(self._options.batch),
            self._judge,
            memory=self._options.memory,
            seed=self._options.seed,
            progress=lambda done, total: self._progress(f"Repairing weights: {done} of {total}"),
        )
        if wide is not None and index == 0:
            return Candidate(wide[1], repaired, wide[0].outputs, _left_out(wide[1], packing))
        return Candidate(cut, repaired, omitted=_left_out(cut, packing))

    def _widened(self, task: Task) -> tuple[Widened, Cut] | None:
        """The same removal with layers that restore channels; `None` where that does not pay."""
        (space, *others) = self.spaces
        if others or not isinstance(space, ChannelUnits) or not isinstance(self._before, Unchanged):
            return None
        choice = task.cut.choice
        groups = [group.id for group in space.groups if choice.cuts(group)]
        candidates = groups if self._options.repair == "reuse" else _stranded(space, groups, task)
        found = widened(space, choice, candidates, self._find) if candidates else None
        if found is None:
            return None
        try:
            return found, without(found.network, (found.space,), found.choice)
        except CannotCut:
            return None


def _stranded(space: ChannelUnits, groups: Collection[str], task: Task) -> list[str]:
    """Groups that are read by nothing that could be fitted to make up for what they lose."""
    helped = {layer.output for layer in fitted_layers(task)}
    summing = {group.id: space.summing(group) for group in space.groups if group.id in groups}
    return [key for key, outputs in summing.items() if outputs and outputs.isdisjoint(helped)]


def _left_out(cut: Cut, packing: Packing) -> tuple[Omission, ...]:
    """Layers that compute with integers in a way that no repair knows."""
    graph = cut.base.graph
    lost = [graph.producer[name] for name in cut.trace.compared if name in graph.producer]
    count = sum(node.op in quant.MACS and node.outputs[0] not in packing.outputs for node in lost)
    if not count:
        return ()
    because = f"leaves {count} integer layers unchanged"
    return (Omission("repair", because, "prune before quantising"),)


def _silent(_: str) -> None:
    """Report no progress."""


class _Sized(Protocol):
    @property
    def network(self) -> Network:
        """What takes most of the memory."""


T = TypeVar("T", bound=_Sized)


class _Remembered(Generic[T]):
    """What was made last, as long as it takes no more than some bytes."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self._found: OrderedDict[str, T] = OrderedDict()

    def get(self, choice: Choice, make: Callable[[], T]) -> T:
        """What belongs to a choice; made if it isn't there."""
        key = choice.digest
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key]
        made = self._found[key] = make()
        while len(self._found) > 1 and self._bytes() > self._budget:
            self._found.popitem(last=False)
        return made

    def _bytes(self) -> int:
        return sum(found.network.graph.size() for found in self._found.values())
