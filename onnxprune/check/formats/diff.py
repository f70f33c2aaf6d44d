"""A comparison of two models as JSON, as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group as Renderables
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from .. import quantity
from ..diff import VERSION, Diff, LayerChange
from ..metrics import METRICS
from ..quantity import Kind
from .json import dumped
from .markdown import inline
from .table import bare, line, plain

_TOP = 10
"""Layers to show to people; JSON has all."""

Row = tuple[str, str, str, str]


def diff_json(found: Diff) -> str:
    """All of it, versioned; numbers are in bytes and pieces, pairs are before and after."""
    content = {
        "version": VERSION,
        "relation": found.relation,
        "same_graph": found.relation != "different graph",
        "weights": {"changed": found.weights[0], "total": found.weights[1]} if found.weights else None,
        "metrics": {
            k: {"old": int(found.old.numbers[k]), "new": int(v)} for k, v in found.new.numbers.items()
        },
        "layers": [_layer(c) for c in found.layers],
        **{key: _pairs(getattr(found, key)) for key in _SECTIONS},
        "notes": {"old": list(found.old.notes), "new": list(found.new.notes)},
    }
    return dumped(content)


_SECTIONS = {
    "operators": "operator",
    "inputs": "input",
    "outputs": "output",
    "opsets": "operator set",
    "metadata": "metadata",
    "dtypes": "bytes of weights of",
}
"""What of a diff is a mapping -> what one of its keys is."""


def diff_table(found: Diff) -> RenderableType:
    """For a terminal."""
    return Renderables(*_parts(found))


def diff_text(found: Diff) -> str:
    """The tables without colours, as for a log."""
    return plain(_parts(found))


def _parts(found: Diff) -> Iterator[Table | Text]:
    yield Text(_headline(found), "bold")
    for title, head, rows in _tables(found):
        yield Text()
        made = bare(Text(title, "bold"))
        for k, name in enumerate(head):
            made.add_column(name, justify="right" if k else "left", overflow="fold")
        for row in rows:
            made.add_row(*(line(cell) for cell in row))
        yield made
    yield from (line(f"note: {note}", "dim") for note in _notes(found))


def diff_markdown(found: Diff) -> str:
    """For a pull-request comment."""
    lines = [f"**{_headline(found)}**", ""]
    for title, head, rows in _tables(found):
        lines += [f"#### {title}", "", f"| {' | '.join(head)} |", "|---|--:|--:|--:|"]
        lines += [f"| {' | '.join(map(inline, row))} |" for row in rows]
        lines.append("")
    lines += [f"> {inline(note)}" for note in _notes(found)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _headline(found: Diff) -> str:
    if found.weights is None or found.relation == "identical":
        return found.relation
    return f"{found.relation}: {found.weights[0]} of {found.weights[1]} weights differ"


def _tables(found: Diff) -> Iterator[tuple[str, Row, list[Row]]]:
    metrics = [_metric(key, found.old.numbers[key], value) for key, value in found.new.numbers.items()]
    yield "Totals", ("metric", "old", "new", "change"), metrics
    if found.layers:
        more = len(found.layers) - _TOP
        title = "Layers, by growth" + (f" (the first {_TOP} of {len(found.layers)})" if more > 0 else "")
        yield title, ("layer", "old", "new", "bytes, MACs"), [_layer_row(c) for c in found.layers[:_TOP]]
    others = [
        (f"{noun} {key}", _shown(old), _shown(new), _kind(old, new))
        for section, noun in _SECTIONS.items()
        for key, (old, new) in getattr(found, section).items()
    ]
    if others:
        yield "Elsewhere", ("what", "old", "new", "change"), others


def _notes(found: Diff) -> list[str]:
    """What the numbers leave out or assume, said once where it is the same for both."""
    both = [note for note in found.new.notes if note in found.old.notes]
    sides = (("old", found.old), ("new", found.new))
    return both + [f"{side}: {note}" for side, said in sides for note in said.notes if note not in both]


def _metric(key: str, old: float, new: float) -> Row:
    kind = METRICS[key].kind
    return (
        METRICS[key].title,
        quantity.text(old, kind),
        quantity.text(new, kind),
        quantity.change(new, old, kind),
    )


def _layer_row(change: LayerChange) -> Row:
    shapes = ["" if x is None else f"{x.op} {x.dtype}{list(x.shape)}" for x in (change.old, change.new)]
    grown = f"{quantity.change(change.growth, 0, Kind.BYTES)}, {quantity.change(change.macs, 0, Kind.COUNT)}"
    return change.name, shapes[0], shapes[1], grown


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _kind(old: Any, new: Any) -> str:
    return "added" if old is None else "removed" if new is None else "changed"


def _layer(change: LayerChange) -> dict[str, Any]:
    return {
        "name": change.name,
        "kind": change.kind,
        "growth": change.growth,
        "macs": change.macs,
        "old": asdict(change.old) if change.old else None,
        "new": asdict(change.new) if change.new else None,
    }


def _pairs(changes: Mapping[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    return {key: {"old": old, "new": new} for key, (old, new) in changes.items()}
