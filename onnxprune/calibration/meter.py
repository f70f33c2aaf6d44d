"""Reductions inside the graph, so that ONNX Runtime computes the sums and only sums come out.

Dumping activations to reduce them later takes memory that grows with the samples. Here it grows with the
channels alone:

    meter = Meter(graph, [Request("relu1", 1, (1, 64, 28, 28), {"gram"})])
    session = Session(meter.graph.serialized())
    for feeds in batches:
        meter.add(session.run(meter.feeds(feeds)))
    meter.moments[0].covariance

Sums over a batch are float32 (float16 is cast first); over batches they are float64.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contracts.request import Kernel, Request
from ..contracts.stats import Moments
from ..errors import InputError
from ..graph import Array, Graph, appended
from ..samples.core import batch_size
from .emitter import POSITIONS, SAMPLED_SINCE, Emitter

__all__ = ["POSITIONS", "Kernel", "Meter", "Request"]


class Meter:
    """A graph that gives sums, and the sums it has given so far.

    Args:
        graph: the graph to look into.
        requests: what to gather.
        seed: of the positions to look at.

    Attributes:
        graph: `graph` with reductions appended, and only their results as outputs.
    """

    def __init__(self, graph: Graph, requests: Sequence[Request], seed: int = 0) -> None:
        self.requests = tuple(requests)
        self._seed = seed
        self._sums: dict[str, Array] = {}
        self._pooled: dict[str, list[Array]] = {}
        if graph.opset() < SAMPLED_SINCE:  # looking at all positions is only slower
            self.positions = 0
        else:
            self.positions = max((r.positions or 0 for r in requests), default=0)
        emit = Emitter(graph.opset(), self.positions > 0)
        made = {name: node.index for name, node in graph.producer.items()}
        last_first = sorted(range(len(self.requests)), key=lambda i: -made.get(self.requests[i].tensor, -1))
        for index in last_first:
            emit.request(f"{index}", self.requests[index])
        self._tensors = emit.outputs
        extra = {POSITIONS: (np.dtype(np.float32), (None, self.positions))} if self.positions else {}
        outputs = tuple(dict.fromkeys(emit.outputs.values()))
        self.graph = appended(graph, emit.nodes, emit.constants, extra, outputs)

    def feeds(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of `graph` for a batch: with the positions to look at, if there is a choice.

        They are drawn from the content of each sample, so neither the batch size nor the order of the samples
        changes them.
        """
        if not self.positions:
            return dict(feeds)
        known = digests(feeds, self._seed)
        drawn = _mixed(known[:, None] << np.uint64(32) | np.arange(self.positions, dtype=np.uint64))
        # The largest float32 below 1 times a length may round up to that length.
        return {**feeds, POSITIONS: np.minimum(drawn, np.float32(0.9999))}

    def add(self, outputs: Mapping[str, Array]) -> None:
        """Add what the graph gave for one batch.

        Raises:
            InputError: a tensor holds NaN or infinity, which would spoil every sum.
        """
        for name, tensor in self._tensors.items():
            value = outputs[tensor]
            if value.ndim < 2 and not np.isfinite(value).all():
                where = self.requests[int(name.partition(".")[0])].tensor
                hint = "leave the sample out, or correct the model"
                raise InputError(f"'{where}' holds NaN or infinity on some sample", hint=hint)
            if name.endswith(".pooled"):
                self._pooled.setdefault(name, []).append(value)
            elif name in self._sums:
                self._sums[name] += value
            else:
                self._sums[name] = value.astype(np.float64)

    @property
    def moments(self) -> tuple[Moments, ...]:
        """The moments of each request, over all batches so far."""
        return tuple(self._moments(f"{i}") for i in range(len(self.requests)))

    def _moments(self, base: str) -> Moments:
        known: dict[str, Any] = {}
        for field in fields(Moments):
            name = f"{base}.{field.name}"
            if name in self._pooled:
                known[field.name] = np.concatenate(self._pooled[name])
            elif name in self._sums:
                value = self._sums[name]
                known[field.name] = round(float(value)) if field.name in ("rows", "samples") else value
        return Moments(**known)


def digests(feeds: Mapping[str, Array], seed: int) -> NDArray[np.uint64]:
    """A number for each sample of a batch, of 32 bits, from its content and a seed."""
    count = batch_size(feeds)
    found = np.empty(count, np.uint64)
    for k in range(count):
        digest = seed
        for name in sorted(feeds):
            array = feeds[name]
            part = array[k] if array.ndim and len(array) == count else array
            digest = zlib.crc32(_content(part), digest)
        found[k] = digest
    return found


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """A number in [0, 1) for each key, as if drawn: a generator for each sample takes longer than the sample.

    Source: Steele, Lea and Flood 2014, Fast Splittable Pseudorandom Number Generators, the mixing function of
    SplitMix64.
    """
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((keys ^ (keys >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def _content(array: Array) -> bytes | memoryview:
    if array.dtype == object:
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).view(np.uint8).data
