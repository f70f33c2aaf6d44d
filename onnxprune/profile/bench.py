"""Models side by side in ONNX Runtime: how long each takes, and what can be said about the difference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from ..cost.sizes import check_dims, feeds_for, integers, sizes, with_hint_of_sizes
from ..errors import InputError
from ..execution.sessions import blaming, open_session
from ..graph import Graph, load, symbolic_dims
from ..runtime import Bindable, ExecutionOptions, Feeds, Ratio, latency, ratio

VERSION = 1
"""Of the JSON that `bench --json` writes."""


_SAME = 0.05  # ratios this close to 1 are called the same


_WIDE = 1.25  # intervals wider than this are shown in place of the ratio


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
class LatencyComparison:
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


def side_by_side(
    models: Sequence[str | os.PathLike[str]],
    options: ExecutionOptions,
    *,
    dims: Mapping[str, int] | None = None,
    batch: int | None = None,
    seconds: float = 2.0,
) -> LatencyComparison:
    """Time models in turns, on random inputs of the same sizes.

    Args:
        models: files; the first is what the others are compared with.
        options: how ONNX Runtime executes.
        dims: sizes of symbolic dimensions by name.
        batch: size of first axes without a fixed size; one sample by default.
        seconds: how long to measure for each model, warm-up apart.

    Raises:
        UsageError: a dimension was named that no model has.
        InputError: a model can't be read, or doesn't run on such inputs.
    """
    graphs = [load(model) for model in models]
    with ExitStack() as stack:
        for graph in graphs:
            stack.enter_context(blaming(graph, dims))
        return _in_turns(models, graphs, options, dims, batch, seconds)


def _in_turns(
    models: Sequence[str | os.PathLike[str]],
    graphs: Sequence[Graph],
    options: ExecutionOptions,
    dims: Mapping[str, int] | None,
    batch: int | None,
    seconds: float,
) -> LatencyComparison:
    check_dims({name for graph in graphs for name in symbolic_dims(graph)}, dims or {})
    known = [sizes(graph, dims, batch) for graph in graphs]
    sessions = [open_session(graph, replace(options, prepack=True)) for graph in graphs]
    feeds = [feeds_for(session.inputs, own) for session, own in zip(sessions, known, strict=True)]
    setting = {"provider": options.provider, "threads": options.threads}
    names = [os.fspath(model) for model in models]
    try:
        return compare(names, sessions, feeds, seconds=seconds, setting=setting)
    except InputError as error:
        guessed = {name for own in known for name in own} - set(dims or {})
        drawn = dict.fromkeys(name for session in sessions for name in integers(session.inputs))
        raise with_hint_of_sizes(error, guessed, drawn) from None


def compare(
    names: Sequence[str],
    sessions: Sequence[Bindable],
    feeds: Sequence[Feeds],
    *,
    seconds: float = 2.0,
    setting: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyComparison:
    """Time sessions in turns.

    Args:
        names: of the models.
        sessions: one for each.
        feeds: for each.
        seconds: how long to measure for each, warm-up apart.
        setting: what to note down beside the shapes.
        clock: the time in seconds.

    Raises:
        InputError: a model doesn't run on its feeds.
    """
    timings = latency(sessions, feeds, seconds=seconds * len(sessions), clock=clock)
    entries = []
    for index, (name, median) in enumerate(zip(names, timings.medians, strict=True)):
        against = ratio(timings.seconds[index], timings.seconds[0]) if index else None
        entries.append(Entry(name, median, against, in_words(against) if against else ""))
    shapes = {name: list(array.shape) for feed in feeds for name, array in feed.items()}
    return LatencyComparison(tuple(entries), timings.seconds.shape[1], {**(setting or {}), "shapes": shapes})


def in_words(found: Ratio) -> str:
    """What a ratio allows to say about a model against the first one."""
    if found.noisy:
        return "too noisy to say; measure longer, or on a machine with less to do"
    sure = found.high <= _WIDE * found.low
    if found.high < 1 and found.value < 1 - _SAME:
        return _times(1 / found.high, 1 / found.value, 1 / found.low, sure) + " as fast"
    if found.low > 1 and found.value > 1 + _SAME:
        return _times(found.low, found.value, found.high, sure) + " slower"
    return "the same"


def _times(low: float, value: float, high: float, sure: bool) -> str:
    return f"{value:.2f}x" if sure else f"{low:.2f}x to {high:.2f}x"


def comparison_table(found: LatencyComparison) -> Renderables:
    """For people."""
    table = Table(title=f"Latency, {found.rounds} rounds side by side", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column("median", justify="right")
    if len(found.entries) > 1:
        table.add_column("ratio", justify="right")
        table.add_column("95% interval", justify="right")
        table.add_column("against the first")
    for entry in found.entries:
        cells = [entry.model, milliseconds(entry.seconds)]
        if entry.ratio is not None:
            r = entry.ratio
            cells += [f"{r.value:.3f}", f"{r.low:.3f} to {r.high:.3f}", entry.verdict]
        table.add_row(*cells)
    shapes = ", ".join(f"{name} {'x'.join(map(str, s))}" for name, s in found.setting["shapes"].items())
    return Renderables(table, Text(f"on {shapes}"))


def milliseconds(seconds: float) -> str:
    """A duration with three digits: `12.3 ms`."""
    return f"{seconds * 1e3:.3g} ms"
