"""A profile as a table for people."""

from __future__ import annotations

from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from .run import LayerProfile, Profile

_SHOWN = 2  # widths beside the present one


def profile_table(found: Profile, *, limit: int | None = None) -> Renderables:
    """Per layer: the time now and at other widths, what limits it, the widths worth having.

    Args:
        found: the profile.
        limit: show only so many, the heaviest.
    """
    table = Table(title="Layers", title_justify="left")
    table.add_column("layer", overflow="fold")
    for heading in ("MACs", "time", "share"):
        table.add_column(heading, justify="right")
    table.add_column("narrower, at this share of the MACs", overflow="fold")
    table.add_column("bound by")
    table.add_column("widths")
    shown = found.layers
    if limit is not None and len(shown) > limit:
        least = sorted((x.seconds for x in shown), reverse=True)[limit - 1]
        shown = tuple(x for x in shown if x.seconds >= least)
    for layer in shown:
        table.add_row(
            layer.name,
            f"{layer.points[0].macs / 1e6:.2f} M" if layer.points[0].macs else "",
            _micro(layer.seconds),
            f"{layer.share:.1%}",
            _others(layer),
            layer.bound,
            f"{layer.multiple}n" if layer.multiple else "",
        )
    lines = [f"kernels: {_micro(found.seconds)}; widths worth having: multiples of {found.multiple}"]
    compute, memory, fixed = (f"{found.share(kind):.0%}" for kind in ("compute", "memory", "fixed"))
    lines.append(
        f"of the time, {compute} follows the MACs, {memory} is memory-bound, {fixed} can't be pruned"
    )
    lines += found.notes
    return Renderables(table, Text("\n".join(lines)))


def _others(layer: LayerProfile) -> str:
    now = layer.points[0]
    parts = []
    for point in layer.points[1 : 1 + _SHOWN]:
        share = f" at {point.macs / now.macs:.2f}" if now.macs else ""
        parts.append(f"{_micro(point.seconds)}{share}")
    return ", ".join(parts)


def _micro(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
