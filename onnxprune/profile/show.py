"""A profile as a table for people."""

from __future__ import annotations

from rich.console import Group as Renderables
from rich.table import Table
from rich.text import Text

from .run import LayerProfile, Profile

_SHOWN = 3  # narrower variants: those in which all groups shrink alike


def profile_table(found: Profile, *, limit: int | None = None) -> Renderables:
    """Per layer: the time now and at other widths, what limits it, the widths that kernels prefer.

    Args:
        found: the profile.
        limit: show only so many, the heaviest.
    """
    table = Table(title="Layers", title_justify="left")
    table.add_column("layer", overflow="fold")
    for heading in ("MACs", "channels", "time", "share"):
        table.add_column(heading, justify="right")
    table.add_column("narrower", overflow="fold")
    table.add_column("bound by")
    table.add_column("multiple of", justify="right")
    shown = found.layers
    if limit is not None and len(shown) > limit:
        least = sorted((x.seconds for x in shown), reverse=True)[limit - 1]
        shown = tuple(x for x in shown if x.seconds >= least)
    for layer in shown:
        table.add_row(
            layer.name,
            f"{layer.points[0].macs / 1e6:.2f} M" if layer.points[0].macs else "",
            str(layer.points[0].width or ""),
            _micro(layer.seconds),
            f"{layer.share:.1%}",
            _others(layer),
            layer.bound,
            str(layer.multiple) if layer.multiple else "",
        )
    lines = [f"kernels: {_micro(found.seconds)}; preferred widths: multiples of {found.multiple}"]
    compute, memory, fixed = (f"{found.share(kind):.0%}" for kind in ("compute", "memory", "fixed"))
    lines.append(
        f"of the time, {compute} follows the MACs, {memory} is memory-bound, {fixed} can't be pruned"
    )
    lines += found.notes
    return Renderables(table, Text("\n".join(lines)))


def _others(layer: LayerProfile) -> str:
    """`48: 1.2 ms, 32: 0.8 ms`: channels and time; the share of the MACs where channels stay as many."""
    now = layer.points[0]
    parts = {}
    for point in sorted(layer.points[1 : 1 + _SHOWN], key=lambda p: -p.macs):
        if point.width != now.width:
            parts[str(point.width)] = _micro(point.seconds)
        elif point.macs != now.macs:
            parts[f"{point.macs / now.macs:.2f} of the MACs"] = _micro(point.seconds)
    return ", ".join(f"{at}: {time}" for at, time in parts.items())


def _micro(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
