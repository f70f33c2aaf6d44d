"""What changed from one model to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from ..execution.sessions import blaming
from ..graph import Graph, dtype_of, nbytes_of, type_text
from .layers import ModelLayer, layers, operator_changes, pair
from .measure import Measurement, Subject, measure
from .same import different_weights, structure

VERSION = 1
"""Of the JSON that `diff --json` writes."""

Relation = Literal["identical", "same graph, other weights", "different graph"]


@dataclass(frozen=True)
class LayerChange:
    """A layer that is not the same in both models; `None` where there is none.

    Attributes:
        old: before.
        new: after.
    """

    old: ModelLayer | None
    new: ModelLayer | None

    @property
    def name(self) -> str:
        """Its name now, or the one it had; both where it was renamed."""
        if self.old is None or self.new is None:
            return next(layer.name for layer in (self.new, self.old) if layer)
        return self.new.name if self.old.name == self.new.name else f"{self.old.name} → {self.new.name}"

    @property
    def growth(self) -> int:
        """Bytes that were added."""
        return (self.new.size if self.new else 0) - (self.old.size if self.old else 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates that were added."""
        return (self.new.macs if self.new else 0) - (self.old.macs if self.old else 0)

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """What happened to it."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "changed"


@dataclass(frozen=True)
class Diff:
    """How two models differ.

    Attributes:
        old: what the first measures.
        new: what the second measures.
        relation: whether they are the same graph.
        weights: how many weights differ, and of how many; `None` between different graphs.
        layers: what changed, the most growing first, by bytes and then by multiply-accumulates.
        operators: how often operators are used, where that changed.
        inputs: name -> type before and after, where that changed.
        outputs: the same for outputs.
        opsets: domain -> version before and after, where that changed.
        metadata: key -> value before and after, where that changed.
        dtypes: dtype of weights -> bytes before and after, where that changed.
    """

    old: Measurement
    new: Measurement
    relation: Relation
    weights: tuple[int, int] | None
    layers: tuple[LayerChange, ...]
    operators: Mapping[str, tuple[int, int]]
    inputs: Mapping[str, tuple[str | None, str | None]]
    outputs: Mapping[str, tuple[str | None, str | None]]
    opsets: Mapping[str, tuple[int | None, int | None]]
    metadata: Mapping[str, tuple[str | None, str | None]]
    dtypes: Mapping[str, tuple[int | None, int | None]]


def diff(old: Subject, new: Subject) -> Diff:
    """Compare two models. Weights are read only where everything else is the same.

    Raises:
        InputError: weights can't be read.
    """
    relation, weights = _relation(old, new)
    with blaming(old.graph, old.facts.dims), blaming(new.graph, new.facts.dims):
        changes = [LayerChange(a, b) for a, b in pair(layers(old), layers(new))]
    changed = [c for c in changes if _content(c.old) != _content(c.new)]
    changed.sort(key=lambda c: (-c.growth, -c.macs, c.name))
    a, b = old.graph, new.graph
    return Diff(
        measure(old),
        measure(new),
        relation,
        weights,
        tuple(changed),
        operator_changes(a, b),
        _changes(_values(a, "input"), _values(b, "input")),
        _changes(_values(a, "output"), _values(b, "output")),
        _changes(_opsets(a), _opsets(b)),
        _changes(_metadata(a), _metadata(b)),
        _changes(_dtypes(a), _dtypes(b)),
    )


def _relation(old: Subject, new: Subject) -> tuple[Relation, tuple[int, int] | None]:
    if structure(old.graph) != structure(new.graph):
        return "different graph", None
    try:
        weights = different_weights(old.graph, new.graph)
    except (OSError, ValueError) as error:
        raise InputError(f"weights can't be read ({error})", where=f"{old.path}, {new.path}") from None
    return ("same graph, other weights" if weights[0] else "identical"), weights


def _content(layer: ModelLayer | None) -> tuple[Any, ...] | None:
    """All but the name."""
    return (layer.op, layer.shape, layer.dtype, layer.params, layer.size, layer.macs) if layer else None


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = dict.fromkeys([*new, *old])
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _values(graph: Graph, which: Literal["input", "output"]) -> dict[str, str]:
    """Name -> type such as `float32[batch, 3, 224, 224]`."""
    values = getattr(graph.model.graph, which)
    return {v.name: type_text(v) for v in values if v.name not in graph.constants}


def _opsets(graph: Graph) -> dict[str, int]:
    return {o.domain or "ai.onnx": o.version for o in graph.model.opset_import}


def _metadata(graph: Graph) -> dict[str, str]:
    model = graph.model
    own = {
        "producer_name": model.producer_name,
        "producer_version": model.producer_version,
        "domain": model.domain,
        "model_version": str(model.model_version or ""),
        "doc_string": model.doc_string,
        "ir_version": str(model.ir_version),
    }
    return {k: v for k, v in own.items() if v} | {f"metadata.{p.key}": p.value for p in model.metadata_props}


def _dtypes(graph: Graph) -> dict[str, int]:
    totals: dict[str, int] = {}
    for tensor in graph.tensors():
        dtype = dtype_of(tensor).name
        totals[dtype] = totals.get(dtype, 0) + nbytes_of(tensor)
    return dict(sorted(totals.items()))
