"""Measure a model: every metric that can be had from its graph, and the costly ones that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..cost.macs import macs, uncounted
from ..cost.memory import peak
from ..errors import InputError
from ..execution.sessions import blaming
from ..graph import Facts, Graph, infer, load, symbolic_dims
from .dead import dead_channels
from .files import compressed_size, files


@dataclass(frozen=True)
class Measurement:
    """What a model measures.

    Attributes:
        numbers: metric -> value, in bytes or pieces; what wasn't asked for or isn't known is missing.
        sets: names of what it uses, sorted.
        structure: the start of a SHA-256 of the graph without its weights, to recognise a model by.
        notes: what the numbers leave out or assume.
    """

    numbers: Mapping[str, float]
    sets: Mapping[str, tuple[str, ...]]
    structure: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A model that is being measured: its file and, read from there, its graph without the weights.

    Attributes:
        path: the file.
        graph: what it holds; external data stays on disk.
        facts: shapes, for the sizes chosen for symbolic dimensions.
        files: the file and those of its external data; they are there.
    """

    path: Path
    graph: Graph
    facts: Facts = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)


def open_model(path: Path, dims: Mapping[str, int]) -> Subject:
    """Read the graph of a model.

    Symbolic dimensions get the size that `dims` gives them. Others: one where they are the first axis, the
    batch; else what shape inference guesses, 64 for pixels and 16 for sequences.

    Raises:
        InputError: the model or a file of its external data can't be read.
    """
    paths = files(path)
    graph = load(path, weights=False)
    batch = {name: 1 for name, (_, axis) in symbolic_dims(graph).items() if axis == 0}
    return Subject(path, graph, infer(graph, {**batch, **dims}), paths)


def measure(subject: Subject, costly: Collection[str] = ()) -> Measurement:
    """Measure a model.

    Args:
        subject: the model.
        costly: those of the metrics that need weights which shall be measured, too.

    Raises:
        InputError: weights can't be read.
    """
    graph, facts = subject.graph, subject.facts
    paths = subject.files
    with blaming(graph, facts.dims):
        operators = graph.operators()
        memory = peak(graph, facts)
        costs = macs(graph, facts)
    numbers: dict[str, float] = {
        "size": sum(p.stat().st_size for p in paths),
        "params": graph.parameters(),
        "macs": sum(costs.values()),
        "nodes": operators.total(),
        "peak-memory": memory.total,
        "opset": graph.opset(),
    }
    measured: Mapping[str, Callable[[], float]] = {
        "compressed-size": lambda: compressed_size(paths),
        "dead-channels": lambda: dead_channels(graph),
    }
    try:
        numbers |= {key: how() for key, how in measured.items() if key in costly}
    except (OSError, ValueError) as error:  # onnx raises ValueError for external data that ends too early
        raise InputError(f"weights can't be read ({error})", where=str(subject.path)) from None
    domains = {op.rpartition(":")[0] or "ai.onnx" for op in operators}
    sets = {"operators": tuple(sorted(operators)), "domains": tuple(sorted(domains))}
    notes = []
    if facts.dims:
        notes.append("assumes " + ", ".join(f"{name}={size}" for name, size in sorted(facts.dims.items())))
    if memory.unknown:
        notes.append(f"peak memory leaves out {memory.unknown} tensors of unknown size")
    left_out = uncounted(graph, facts)
    if left_out:
        notes.append(f"MACs leave out {', '.join(map(str, left_out))}")
    return Measurement(numbers, sets, graph.fingerprint()[:16], tuple(notes))
