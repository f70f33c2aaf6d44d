"""Closed-form repair: the weights that are left make up for those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from ..calibration.expectation import Normal, normals
from ..errors import InputError
from ..graph import Array, Graph
from ..quality.loss import Judge
from .coding import decoded, encoded
from .consumers import quantised
from .integers import layers_of, lifted, lowered
from .merging import compensate, merge
from .projection import projected
from .reuse import arranged, narrowed, stranded
from .sequential import Repaired, fold
from .surgery import Surgery

__all__ = ["Mode", "Normal", "Outcome", "Repaired", "Surgery", "normals", "projected", "repair"]

Mode = Literal["none", "bias", "fold", "reuse", "auto"]
"""What may change: nothing; biases; weights and biases; layers are added; what is best for what is known."""

JUDGES = 4
"""Batches to judge on where no others than those of the fit are given."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A repaired graph.

    Attributes:
        graph: the graph.
        mode: how it was repaired in the end: `none`, `bias`, `fold`, `reuse` or `merge`.
        consumers: what became of each consumer.
        before: what the outputs lose without repair (see `fidelity.Loss`); `None` where it wasn't measured.
        after: with it.
        notes: what the user should know.
    """

    graph: Graph
    mode: str
    consumers: tuple[Repaired, ...] = ()
    before: float | None = None
    after: float | None = None
    notes: tuple[str, ...] = ()


def repair(
    surgery: Surgery,
    mode: Mode = "auto",
    batches: Iterable[Mapping[str, Array]] | None = None,
    held: Iterable[Mapping[str, Array]] | None = None,
    *,
    memory: float = 2e9,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Outcome:
    """Repair a pruned graph; never for the worse on samples that the fit has not seen.

    Args:
        surgery: what was done.
        mode: what may change. Without samples, weights alone decide: channels that are gone are merged into
            similar ones that stay, or with `bias`, biases take over the means that BatchNormalization tells.
        batches: samples to fit on, gone through several times; two batches or more, so that one half can
            judge what the other has fitted.
        held: other samples, to judge the outcome on; some of the fit by default. They stay in memory.
        memory: bytes of activations to hold before they go to a temporary folder.
        seed: which rows are looked at where there are more than enough.
        progress: told how many steps are done, of how many.
    """
    if mode == "none" or surgery.kept.all():
        return Outcome(surgery.pruned, "none")
    samples = list(batches) if isinstance(batches, Iterator) else batches
    if samples is None or next(iter(samples), None) is None:
        return Outcome(compensate(surgery), "bias") if mode == "bias" else Outcome(merge(surgery), "merge")
    try:
        judge = Judge(surgery.graph, islice(samples, JUDGES) if held is None else held)
        before = judge.loss(surgery.pruned)
    except InputError as error:
        return Outcome(surgery.pruned, "none", notes=(f"no repair could be judged: {error}",))
    count = quantised(surgery, {layer.node.outputs[0] for layer in layers_of(surgery.pruned)})
    said = f"repair leaves {count} layers as they are that compute with integers: prune before quantising"
    notes = [said] if count else []
    widened = arranged(surgery, _to_restore(surgery, mode))
    for candidate in _candidates(mode, bool(widened.restored)):
        try:
            chosen = widened if candidate == "reuse" else surgery
            floats, codes = decoded(chosen.pruned)
            floats, layers = lifted(floats) if candidate != "reuse" else (floats, ())
            graph, lines = fold(
                replace(chosen, pruned=floats),
                samples,
                weights=candidate != "bias",
                memory=memory,
                seed=seed,
                progress=progress,
            )
            graph = encoded(lowered(graph, layers), codes)
            after = judge.loss(graph)
        except InputError as error:
            notes.append(f"repair by {candidate} was given up: {error}")
            continue
        if after < before:
            return Outcome(graph, candidate, lines, before, after, tuple(notes))
    return Outcome(surgery.pruned, "none", (), before, before, tuple(notes))


def _to_restore(surgery: Surgery, mode: Mode) -> frozenset[int]:
    """Groups that shall have their channels restored, where that pays."""
    if mode == "reuse":
        return narrowed(surgery)
    return stranded(surgery) if mode == "auto" else frozenset()


def _candidates(mode: Mode, restoring: bool) -> Sequence[str]:
    """What to try, until something helps."""
    if mode == "bias":
        return ("bias",)
    return ("reuse", "fold", "bias") if restoring else ("fold", "bias")
