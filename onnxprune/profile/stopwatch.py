"""Times of layers: from a table where it knows them, measured where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..graph import Facts, Graph
from ..runtime import ExecutionOptions, Feeds, Session, kernel_seconds, random_feeds
from .layers import TimedLayer
from .table import Table

Measure = Callable[[Sequence[bytes], Sequence[Feeds], ExecutionOptions], NDArray[np.float64]]
"""Models and their feeds -> seconds (models, rounds)."""

_TOGETHER = 24  # models in one session of measurement: so many are alive at a time, and compared side by side
_BYTES_TOGETHER = 1 << 28
_QUANTILE = 0.1  # other processes only ever add time, so what is short is true; the very shortest is luck


@dataclass(frozen=True)
class Variant:
    """A graph at some widths, whose layers are to be timed."""

    graph: Graph
    facts: Facts
    layers: tuple[TimedLayer, ...]


class Stopwatch:
    """Knows or measures the time of layers.

    Args:
        table: what is known already.
        options: how to execute.
        measure: how to time models.
        frozen: measure nothing: the table must know everything.
        seed: of the inputs.
    """

    def __init__(
        self,
        table: Table,
        options: ExecutionOptions,
        *,
        measure: Measure = kernel_seconds,
        frozen: bool = False,
        seed: int = 0,
    ) -> None:
        self.table = table
        self._options = options
        self._measure = measure
        self._frozen = frozen
        self._seed = seed
        self._asked: set[str] = set()
        self.failed: dict[str, str] = {}
        """Layers that don't run on their own, and why."""

    def time(self, variants: Sequence[Variant]) -> None:
        """Make the table know every layer of these variants.

        Layers of the same name are measured in one session, for their ratios matter most.

        Raises:
            InputError: the table is frozen and doesn't know one.
        """
        self._asked |= {layer.key for v in variants for layer in v.layers}
        missing: dict[str, tuple[Variant, TimedLayer]] = {}
        wanted = [(layer.name, v, layer) for v in variants for layer in v.layers]
        order = {name: k for k, name in enumerate(dict.fromkeys(name for name, _, _ in wanted))}
        for _, variant, layer in sorted(wanted, key=lambda w: order[w[0]]):
            if layer.key not in self.table.seconds and layer.key not in self.failed:
                missing.setdefault(layer.key, (variant, layer))
        if missing and self._frozen:
            first = next(iter(missing.values()))[1]
            raise InputError(
                f"the latency table doesn't know layer '{first.title}' at some width",
                hint="it was measured for another model or with other options, on another machine",
            )
        for batch in self._batches(list(missing.values())):
            self._time(batch)

    @property
    def used(self) -> Table:
        """What was asked for: with this table, the same profile needs no measuring."""
        known = {key: time for key, time in self.table.seconds.items() if key in self._asked}
        return Table(self.table.setting, known)

    def seconds(self, layer: TimedLayer) -> float:
        """The time of a layer; 0 where it doesn't run on its own."""
        return self.table.seconds.get(layer.key, 0.0)

    def _batches(self, missing: Sequence[tuple[Variant, TimedLayer]]) -> Iterator[list[tuple[str, bytes]]]:
        batch: list[tuple[str, bytes]] = []
        size = 0
        for variant, layer in missing:
            try:
                model = layer.alone(variant.graph, variant.facts)
            except InputError as error:
                self.failed[layer.key] = str(error)
                continue
            if batch and (len(batch) == _TOGETHER or size + len(model) > _BYTES_TOGETHER):
                yield batch
                batch, size = [], 0
            batch.append((layer.key, model))
            size += len(model)
        if batch:
            yield batch

    def _time(self, batch: Sequence[tuple[str, bytes]]) -> None:
        try:
            feeds = [self._feeds(model) for _, model in batch]
            measured = self._measure([model for _, model in batch], feeds, self._options)
        except InputError as error:
            if len(batch) > 1:  # one of them doesn't run: find out which
                for one in batch:
                    self._time([one])
            else:
                self.failed[batch[0][0]] = str(error)
            return
        times = np.quantile(measured, _QUANTILE, axis=1)
        self.table = self.table.with_times({k: float(t) for (k, _), t in zip(batch, times, strict=True)})

    def _feeds(self, model: bytes) -> Feeds:
        specs = Session(model, self._options).inputs
        return random_feeds(specs, np.random.default_rng(self._seed))
