"""Budgets of cost on real models: each is measured on narrowed graphs until the widest within all is found.

What a weight is has no influence on cost, so candidates are only cut, not repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ..contracts.budget import Limit
from ..cost.macs import macs as count_macs
from ..cost.memory import peak
from ..cost.sizes import feeds_for, sizes
from ..errors import Infeasible
from ..execution.sessions import open_session
from ..execution.timing import Timing
from ..graph import Graph, infer
from ..runtime import latency, ratio
from ..types import Mask
from .edge import Effort, Search, edge
from .limits import Cap, worst
from .refusal import too_tight

LATENCY_WINDOW = 0.1
"""Measured latency ends at most this share below what was asked: to be more precise would be luck."""

_CLOSE = 0.01  # the same for what is counted, not measured

Driver = Literal["macs", "params", "latency"]


@dataclass(frozen=True)
class Goals:
    """How much of the original may stay, each at the most; those not given are `None`."""

    macs: Limit | None = None
    params: Limit | None = None
    size: Limit | None = None
    latency: Limit | None = None
    memory: Limit | None = None

    def given(self) -> dict[str, Limit]:
        """Those that are set, by option."""
        named = {
            "--macs": self.macs,
            "--params": self.params,
            "--size": self.size,
            "--latency": self.latency,
            "--memory-peak": self.memory,
        }
        return {option: limit for option, limit in named.items() if limit is not None}

    def tightened(self, option: str, factor: float) -> Goals:
        """The same with one limit times a factor."""
        name = option.removeprefix("--").removesuffix("-peak")
        return replace(self, **{name: self.given()[option].times(factor)})

    @property
    def driver(self) -> Driver:
        """The cost that an allocation brings down, so that these goals are met with the least loss."""
        if self.latency is not None:
            return "latency"
        weights_only = set(self.given()) <= {"--params", "--size"} and self.given()
        return "params" if weights_only else "macs"


@dataclass(frozen=True)
class Found:
    """The widest graph within all budgets.

    Attributes:
        kept: (units,), whether each stays.
        graph: with these units only.
        share: of the driving cost that it was allocated.
        search: all that was tried.
    """

    kept: Mask
    graph: Graph
    share: float
    search: Search[tuple[Mask, Graph]]


def caps(
    goals: Goals, original: Graph, timing: Timing | None = None, seconds: float = 2.0
) -> tuple[Cap[Graph], ...]:
    """The budgets as what is measured on a graph, and its limit.

    Args:
        goals: the budgets.
        original: what shares refer to.
        timing: how to run it for `--latency`, and the shapes for all.
        seconds: how long to time each candidate beside the original.
    """
    timing = timing or Timing()
    dims = sizes(original, timing.dims, timing.batch)
    measures: Mapping[str, Callable[[Graph], float]] = {
        "--macs": lambda graph: sum(count_macs(graph, infer(graph, dims)).values()),
        "--params": lambda graph: graph.parameters(),
        "--size": lambda graph: graph.size(),
        "--memory-peak": lambda graph: peak(graph, infer(graph, dims)).total,
    }
    result = []
    for option, limit in goals.given().items():
        if option == "--latency":
            result.append(_latency_cap(limit, original, dims, timing, seconds))
        else:
            measure = measures[option]
            result.append(_cap(option, limit, measure, original))
    return tuple(result)


def _cap(option: str, limit: Limit, measure: Callable[[Graph], float], original: Graph) -> Cap[Graph]:
    if limit.amount is not None:
        return Cap(option, limit.amount, measure, limit.written)
    total = measure(original)
    return Cap(option, limit.of(1.0), lambda graph: measure(graph) / total, limit.written)


def _latency_cap(
    limit: Limit, original: Graph, dims: Mapping[str, int], timing: Timing, seconds: float
) -> Cap[Graph]:
    """A share is measured beside the original, in the same rounds; a time as it is."""
    before = open_session(original, timing.options)
    feeds = feeds_for(before.inputs, dims)

    def share(graph: Graph) -> float:
        timings = latency([open_session(graph, timing.options), before], [feeds] * 2, seconds=seconds)
        return ratio(*timings.seconds).value if limit.share is not None else timings.medians[0]

    return Cap("--latency", limit.of(1.0), share, limit.written)


def meet(
    kept_at: Callable[[float], Mask],
    narrowed: Callable[[Mask], Graph],
    budgets: tuple[Cap[Graph], ...],
    *,
    floor: float,
    first: float | None = None,
    evaluations: int = 10,
    names: Callable[[Mask], list[str]] = lambda _: [],
) -> Found:
    """The widest graph within all budgets.

    Args:
        kept_at: which units to keep for a share of the driving cost.
        narrowed: the graph with only these.
        budgets: what to keep within.
        floor: the least share that can be asked for.
        first: the share to look at first.
        evaluations: at most this many graphs.
        names: the groups that most of what is left lies in, for the message that a budget can't be met.

    Raises:
        Infeasible: a budget can't be met.
    """

    def evaluate(share: float) -> tuple[Mask, Graph]:
        kept = kept_at(share)
        return kept, narrowed(kept)

    timed = any(cap.option == "--latency" for cap in budgets)
    found = edge(
        evaluate,
        lambda made: worst(budgets, made[1])[1],
        inside=floor,
        outside=1.0,
        first=None if first is None else max(first, floor),
        effort=Effort(evaluations, tolerance=LATENCY_WINDOW if timed else _CLOSE),
    )
    if found.best is None:
        raise _refusal(budgets, found, names)
    kept, graph = found.best.candidate
    return Found(kept, graph, found.best.at, found)


def _refusal(
    budgets: tuple[Cap[Graph], ...], found: Search[tuple[Mask, Graph]], names: Callable[[Mask], list[str]]
) -> Infeasible:
    kept, graph = found.closest.candidate
    cap, excess = worst(budgets, graph)
    return too_tight(cap.option, cap.written(cap.limit), cap.written((1 + excess) * cap.limit), names(kept))
