"""A graph at given sizes of its inputs, with what is derived from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from .core import Edits, Graph
from .facts import Facts, infer
from .flatten import unflattened
from .inputs import one_sample

T = TypeVar("T")


class Network:
    """A graph at given sizes of its inputs; what is derived from it is computed once, on first use.

    Args:
        graph: the graph.
        dims: sizes of symbolic dimensions; others are guessed.

    Example:
        >>> from onnxprune.graph import load
        >>> network = Network(load("models/digits-plain.onnx"), {"batch": 8})
        >>> network.facts.shapes["logits"]
        (8, 10)
    """

    def __init__(self, graph: Graph, dims: Mapping[str, int] | None = None) -> None:
        self.graph = graph
        self._dims = dict(dims or {})
        self._derived: dict[Hashable, Any] = {}

    @cached_property
    def facts(self) -> Facts:
        """Shapes and values of all tensors."""
        return infer(self.graph, self._dims)

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self.graph.where

    @cached_property
    def digest(self) -> str:
        """SHA-256 over nodes, links and weights."""
        return self.graph.digest()

    def cached(self, key: Hashable, make: Callable[[Network], T]) -> T:
        """What `make` derives from this network, which is made once for each key."""
        if key not in self._derived:
            self._derived[key] = make(self)
        found: T = self._derived[key]
        return found

    def edited(self, edits: Edits) -> Network:
        """A changed copy at the same sizes; tensors keep their names."""
        return self.of(self.graph.edited(edits)) if edits else self

    def of(self, graph: Graph) -> Network:
        """Another graph at the same sizes."""
        return self if graph is self.graph else Network(graph, self._dims)

    def sized(self, dims: Mapping[str, int]) -> Network:
        """The same graph at other sizes: these, and those that were given or guessed before."""
        merged = {**self._dims, **dims}
        if merged == self._dims:
            return self
        key = ("sized", *sorted(merged.items()))
        return self.cached(key, lambda network: Network(network.graph, merged))

    @property
    def unflattened(self) -> Network:
        """As it is delivered: with what only a branch of an If needs inside of that branch."""
        return self.cached("unflattened", lambda network: network.of(unflattened(network.graph)))

    @property
    def of_one_sample(self) -> Network:
        """The same graph for one sample at a time."""
        return self.sized({**one_sample(self.graph), **self._dims})

    def __getstate__(self) -> dict[str, Any]:
        return {"graph": self.graph, "_dims": self._dims, "_derived": {}}
