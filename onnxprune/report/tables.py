"""The same for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group as Renderables
from rich.console import JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from ..contracts.plan import Plan, PlannedReduction
from ..contracts.verdict import Verdict
from ..contracts.weights import Fate
from ..runtime import Ratio
from .entries import WeightSummary
from .inspection import Inspection


def count(value: float | None) -> str:
    """A number with its unit prefix: 1.23 M."""
    if value is None:
        return "?"
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g}"


_FATES: Mapping[Fate, str] = {
    "pruned": "pruned",
    "coupled": "narrowed with others",
    "whole": "left whole",
    "blocked": "blocked (see 'onnxprune inspect')",
}
_FATE = "group, or what blocks it"


def _table(title: str, columns: Mapping[str, JustifyMethod], last: str) -> Table:
    """A table of these columns, and one more for words."""
    table = Table(title=title, title_justify="left")
    for heading, justify in {**columns, last: "left"}.items():
        table.add_column(heading, justify=justify, overflow="fold")
    return table


def inspection_tables(found: Inspection) -> Renderables:
    """Layers, other weights, what blocks any of them, totals and the largest gain."""
    parts: list[RenderableType] = [_layers(found)]
    rest = _other_weights(found)
    parts += [rest] if rest.row_count else []
    obstacles = _obstacles(found)
    parts += [obstacles] if obstacles.row_count else []
    return Renderables(*parts, _totals(found))


def _layers(found: Inspection) -> Table:
    columns: dict[str, JustifyMethod] = {
        "layer": "left",
        "op": "left",
        "shape": "left",
        "MACs": "right",
        "params": "right",
    }
    table = _table(f"{found.path}: {found.nodes} nodes, opset {found.opset}", columns, _FATE)
    for layer in found.layers:
        notes = []
        if layer.group is not None:
            notes.append(layer.group + (f" (with {len(layer.coupled)} more)" if layer.coupled else ""))
        if layer.blocked:
            notes.append(f"{layer.blocked} blocked by {layer.by}: {layer.reason}")
        elif layer.group is None:
            notes.append("has no channels to remove")
        shape = "x".join(map(str, layer.shape))
        table.add_row(layer.name, layer.op, shape, count(layer.macs), count(layer.params), "; ".join(notes))
    return table


def _other_weights(found: Inspection) -> Table:
    """Weights that no layer of the first table reads, by their state."""
    layers = {layer.name for layer in found.layers}
    alike: dict[str, list[WeightSummary]] = {}
    for weight in found.weights:
        if layers.isdisjoint(weight.nodes):
            alike.setdefault(_in_words(weight), []).append(weight)
    table = _table("Other weights", {"weights": "left", "params": "right"}, _FATE)
    for words, some in alike.items():
        table.add_row(_first(w.name for w in some), count(sum(math.prod(w.shape) for w in some)), words)
    return table


def _in_words(weight: WeightSummary) -> str:
    notes = list(weight.groups)
    notes += [f"coupled with {_first(weight.coupled)}"] if weight.coupled else []
    notes += [f"blocked by {weight.by}: {weight.reason}"] if weight.by else []
    return "; ".join(notes)


def _first(names: Iterable[str]) -> str:
    """One name for all, and how many there are."""
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def _obstacles(found: Inspection) -> Table:
    """What blocks weights, or some of their channels, and what would unblock them."""
    alike: dict[tuple[str, str], list[WeightSummary]] = {}
    for weight in found.weights:
        if weight.reason is not None and weight.unblock is not None:
            alike.setdefault((weight.reason, weight.unblock), []).append(weight)
    columns: dict[str, JustifyMethod] = {
        "blocked by": "left",
        "whole weights": "right",
        "parts of weights": "right",
    }
    table = _table("Blocked weights", columns, "what would unblock them")
    for (reason, unblock), some in sorted(alike.items(), key=lambda item: -len(item[1])):
        whole = sum(w.state == "blocked" for w in some)
        by = _first(dict.fromkeys(w.by or "" for w in some))
        table.add_row(f"{by}: {reason}", str(whole), str(len(some) - whole), unblock)
    return table


def _totals(found: Inspection) -> Text:
    sizes = ", ".join(f"{name}={size}" for name, size in found.dims.items())
    fixed = f" for its batch of {found.batch}" if found.batch > 1 else ""
    lines = [
        f"total: {count(found.size.params)} parameters, {count(found.size.macs)} MACs{fixed}"
        f"{f' with {sizes}' if sizes else ''}, {count(found.size.bytes)}B"
    ]
    if found.uncounted:
        lines.append(f"MACs leave out {', '.join(found.uncounted)}")
    if found.groups:
        best = max(found.groups, key=lambda g: g.params)
        share = best.params / max(1, found.size.params)
        lines.append(
            f"{len(found.groups)} group{'s' if len(found.groups) > 1 else ''}; "
            f"largest gain: '{best.name}' ({best.units} units) "
            f"carries {share:.0%} of the parameters"
        )
    else:
        lines.append("nothing can be pruned")
    return Text("\n".join(lines))


def weights_line(weights: Sequence[Mapping[str, Any]]) -> str:
    """How many weights became what. `weights`: of a report."""
    fates = Counter(weight["state"] for weight in weights)
    counts = ", ".join(f"{fates[fate]} {words}" for fate, words in _FATES.items() if fates[fate])
    return f"weights: {counts}"


def seconds_line(seconds: Mapping[str, float]) -> str:
    """How long it took, and what took most of it. `seconds`: by stage."""
    longest = sorted(seconds.items(), key=lambda item: -item[1])[:3]
    stages = ", ".join(f"{stage[:1].lower()}{stage[1:]} {_time(took)}" for stage, took in longest)
    return f"took {_time(sum(seconds.values()))}: {stages}"


def _time(seconds: float) -> str:
    """9.4 s, 43 s, 3 min."""
    return f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds / 60:.0f} min"


_TITLES = {"channels": "Channels kept", "kernels": "Kernels kept", "weights": "Weights kept"}


def plan_tables(plan: Plan) -> Renderables:
    """What stays of every group that loses something, a table for each reduction."""
    reductions = [one for phase in plan.phases for one in phase.reductions]
    return Renderables(*(_reduction_table(one) for one in reductions))


def _reduction_table(found: PlannedReduction) -> Table:
    table = Table(title=_TITLES.get(found.reduction, found.reduction), title_justify="left")
    table.add_column("group", overflow="fold")
    table.add_column("kept", justify="right")
    table.add_column("of", justify="right")
    if any(group.approximate for group in found.groups):
        table.add_column("")
    for group in found.groups:
        marks = ["approximate"] if group.approximate else []
        table.add_row(group.name, str(group.kept), str(group.size), *marks)
    for layer in found.layers:
        table.add_row(layer.weight, str(layer.kept), str(math.prod(layer.shape)))
    return table


def verdict_table(verdict: Verdict) -> Table:
    """Before and after."""
    table = Table(title="Verdict", title_justify="left")
    for heading in ("", "before", "after", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    before, after = verdict.before, verdict.after
    for name, a, b in (
        ("parameters", before.params, after.params),
        ("MACs", before.macs, after.macs),
        ("bytes", before.bytes, after.bytes),
    ):
        table.add_row(name, count(a), count(b), f"{b / a:.3f}" if a else "")
    if verdict.accuracy is not None:
        old, new = verdict.accuracy
        change = f"{100 * (new.value - old.value):+.2f} points"
        table.add_row(f"accuracy on {new.total}", f"{old.value:.2%}", f"{new.value:.2%}", change)
    if verdict.drop is not None:
        d = verdict.drop
        interval = "" if d.low is None or d.high is None else f" [{-100 * d.high:.2f}, {-100 * d.low:.2f}]"
        label = f"{d.metric} on {d.samples} held-out samples" if d.samples else f"{d.metric}, held out"
        table.add_row(
            label, f"{d.before:.2%}", f"{d.before - d.value:.2%}", f"{-100 * d.value:+.2f} points{interval}"
        )
    if verdict.speed is not None:
        s = verdict.speed
        noise = ", too noisy to say" if Ratio(s.ratio, s.low, s.high).noisy else ""
        table.add_row(
            "latency",
            f"{s.before * 1e3:.3g} ms",
            f"{s.after * 1e3:.3g} ms",
            f"{s.ratio:.3f} [{s.low:.3f}, {s.high:.3f}]{noise}",
        )
    if verdict.surgery_error is not None:
        table.add_row(
            "surgery error", "", f"{verdict.surgery_error:.1e}", "exact" if verdict.exact else "approximate"
        )
    if verdict.drift is not None:
        for name, value in verdict.drift.relative.items():
            agree = verdict.drift.top1.get(name)
            table.add_row(
                f"drift of '{name}' on {verdict.drift.samples} samples",
                "",
                f"{value:.4f}",
                f"top-1 agrees {agree:.2%}" if agree is not None else "",
            )
    return table
