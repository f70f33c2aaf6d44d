"""The curve of cost against quality, as a table and as a plot."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..contracts.point import ParetoPoint, T
from ..errors import UsageError
from ..graph import write_atomic


def pareto_table(choices: Sequence[ParetoPoint[T]], *, cost: str, quality: str) -> Table:
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
        table.add_row(c.name, f"{c.cost:.3f}", f"{c.quality:.4f}", "dominated" if c.dominated else "")
    return table


def plot(choices: Sequence[ParetoPoint[T]], path: str | os.PathLike[str], *, cost: str, quality: str) -> None:
    """Draw cost against quality into a file; its suffix decides the format.

    Raises:
        UsageError: matplotlib isn't installed, or doesn't know the format.
        InputError: the file can't be written.
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
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format=Path(path).suffix.removeprefix(".") or "png")
    except ValueError as error:
        raise UsageError(f"can't be drawn: {error}", where=str(path)) from None
    write_atomic(Path(path), drawn.getvalue())
