"""Models side by side in ONNX Runtime: how long each takes, and what can be said about the difference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from rich.table import Table

from .errors import UsageError
from .runtime import Feeds, Ratio, TensorSpec, latency, random_feeds, ratio

VERSION = 1
"""Of the JSON that `bench --json` writes."""

_SAME = 0.05  # ratios this close to 1 are called the same


class Runnable(Protocol):
    """What can be timed: a `Session`."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model needs."""

    def bind(self, feeds: Feeds, /) -> Callable[[], object]:
        """Prepare to run on these feeds many times."""


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        model: its name.
        seconds: median of one run.
        ratio: its latency over that of the first model; `None` for the first itself.
        verdict: the comparison in words, the empty string for the first.
    """

    model: str
    seconds: float
    ratio: Ratio | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """Latencies that were measured in the same rounds.

    Attributes:
        entries: in the order of the models.
        rounds: how many timings of each model there are.
        setting: provider, threads and the shapes that were fed, for the record.
    """

    entries: tuple[Entry, ...]
    rounds: int
    setting: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": VERSION, **asdict(self)}


def compare(
    names: Sequence[str],
    sessions: Sequence[Runnable],
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    setting: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time models in turns, on random inputs.

    Args:
        names: of the models.
        sessions: one for each.
        dims: sizes of symbolic dimensions by name.
        batch: size of first axes without a fixed size; one sample by default.
        seconds: how long to measure for each model, warm-up apart.
        seed: of the inputs; inputs of the same shape are the same for all models.
        setting: what to note down beside the shapes.
        clock: the time in seconds.

    Raises:
        UsageError: a dimension was named that no model has.
        InputError: a model doesn't run on such inputs.
    """
    _check_dims([spec for session in sessions for spec in session.inputs], dims or {})
    feeds = [feeds_for(session.inputs, dims=dims, batch=batch, seed=seed) for session in sessions]
    timings = latency(sessions, feeds, seconds=seconds * len(sessions), clock=clock)
    entries = []
    for index, (name, median) in enumerate(zip(names, timings.medians, strict=True)):
        against = ratio(timings.seconds[index], timings.seconds[0]) if index else None
        entries.append(Entry(name, median, against, in_words(against) if against else ""))
    shapes = {name: list(array.shape) for feed in feeds for name, array in feed.items()}
    return Comparison(tuple(entries), timings.seconds.shape[1], {**(setting or {}), "shapes": shapes})


def feeds_for(
    specs: Sequence[TensorSpec],
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
    seed: int = 0,
) -> Feeds:
    """Random inputs for a model; see `compare`."""
    known = dict(dims or {})

    def fixed(spec: TensorSpec) -> TensorSpec:
        first = spec.shape[0] if spec.shape else 1
        if batch is None or isinstance(first, int) or first in known:
            return spec
        return replace(spec, shape=(batch, *spec.shape[1:]))

    return random_feeds(map(fixed, specs), np.random.default_rng(seed), known)


def _check_dims(specs: Sequence[TensorSpec], dims: Mapping[str, int]) -> None:
    symbols = {dim for spec in specs for dim in spec.shape if isinstance(dim, str)}
    for name in dims:
        if name not in symbols:
            there = f"there are: {', '.join(sorted(symbols))}" if symbols else "all dimensions are fixed"
            raise UsageError(f"no input has a dimension '{name}'", where="--dim", hint=there)


def in_words(found: Ratio) -> str:
    """What a ratio allows to say about a model against the first one."""
    if found.noisy:
        return "too noisy to say; measure longer, or on a machine with less to do"
    if found.high < 1 and found.value < 1 - _SAME:
        return f"{1 / found.value:.2f}x as fast"
    if found.low > 1 and found.value > 1 + _SAME:
        return f"{found.value:.2f}x slower"
    return "the same"


def comparison_table(found: Comparison) -> Table:
    """For people."""
    table = Table(title=f"Latency, {found.rounds} rounds side by side", title_justify="left")
    table.add_column("model", overflow="fold")
    for heading in ("median", "ratio", "95% interval"):
        table.add_column(heading, justify="right")
    table.add_column("against the first")
    for entry in found.entries:
        against = entry.ratio
        value, interval = ("", "")
        if against is not None:
            value, interval = f"{against.value:.3f}", f"{against.low:.3f} to {against.high:.3f}"
        table.add_row(entry.model, milliseconds(entry.seconds), value, interval, entry.verdict)
    return table


def milliseconds(seconds: float) -> str:
    """A duration with three digits: `12.3 ms`."""
    return f"{seconds * 1e3:.3g} ms"
