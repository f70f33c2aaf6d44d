"""Models along the curve of cost against quality."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from rich.table import Table

from ..errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """One model on offer.

    Attributes:
        name: of its file.
        cost: share of the original's cost.
        quality: the higher the better.
        candidate: the model.
        dominated: another one costs no more and is no worse.
    """

    name: str
    cost: float
    quality: float
    candidate: T
    dominated: bool = False


def shares(number: int, floor: float) -> tuple[float, ...]:
    """Evenly spaced shares of cost to keep, from wide to narrow: above `floor`, below 1."""
    return tuple(1 - (1 - floor) * k / number for k in range(1, number + 1))


def curve(
    evaluate: Callable[[float], T],
    describe: Callable[[T], tuple[str, float, float]],
    targets: Sequence[float],
    executor: Executor | None = None,
) -> tuple[Choice[T], ...]:
    """A model for every target.

    Args:
        evaluate: makes the candidate for a share of the cost.
        describe: a candidate's name, cost (share of the original's) and quality.
        targets: shares of the cost to keep.
        executor: where to make them; here by default.
    """
    run = map if executor is None else executor.map
    found = [(*describe(made), made) for made in run(evaluate, targets)]
    return tuple(
        Choice(name, cost, quality, made, _dominated(cost, quality, [f[1:3] for f in found]))
        for name, cost, quality, made in found
    )


def _dominated(cost: float, quality: float, others: Sequence[tuple[float, float]]) -> bool:
    return any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in others)


def pareto_table(choices: Sequence[Choice[T]], *, cost: str, quality: str) -> Table:
    """What is on offer.

    Args:
        choices: the models.
        cost: what the cost is, in words.
        quality: what the quality is, in words.
    """
    table = Table(title="Along the curve", title_justify="left")
    table.add_column("model", overflow="fold")
    table.add_column(cost, justify="right")
    table.add_column(quality, justify="right")
    table.add_column("")
    for c in choices:
        table.add_row(c.name, f"{c.cost:.3f}", f"{c.quality:.4f}", "another is better" if c.dominated else "")
    return table


def plot(choices: Sequence[Choice[T]], path: str | os.PathLike[str], *, cost: str, quality: str) -> None:
    """Draw cost against quality into a file; its suffix says the format.

    Raises:
        UsageError: matplotlib isn't installed, or doesn't know the format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        hint = "pip install 'onnxprune[plot]'"
        raise UsageError("plots need matplotlib, which isn't installed", where=str(path), hint=hint) from None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    front = sorted((c for c in choices if not c.dominated), key=lambda c: c.cost)
    rest = [c for c in choices if c.dominated]
    axes.plot([c.cost for c in front], [c.quality for c in front], "o-")
    axes.plot([c.cost for c in rest], [c.quality for c in rest], "o", color="lightgray")
    for c in front:
        axes.annotate(c.name, (c.cost, c.quality), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xlabel=cost, ylabel=quality)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(Path(path))
    except ValueError as error:
        raise UsageError(f"can't be drawn: {error}", where=str(path)) from None
