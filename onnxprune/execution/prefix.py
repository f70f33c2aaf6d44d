"""A graph evaluated for all samples as far as some nodes: every node runs once, however often it stops.

What the rest of the graph will read is kept in memory, and beyond a budget in a temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..graph import Array, Graph, Node, reason_of, segment
from .sessions import open_session


class ActivationStore:
    """Keeps arrays: in memory up to a number of bytes, then in files.

    Args:
        budget: bytes.
    """

    def __init__(self, budget: float) -> None:
        self._left = budget
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files = 0

    def put(self, array: Array) -> Array:
        """The same values, to be given back to `drop`.

        Raises:
            InputError: there is no room for them.
        """
        if array.nbytes <= self._left or array.dtype.kind == "O" or not array.size:
            self._left -= array.nbytes
            return array
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="onnxprune-")
        self._files += 1
        path = Path(self._folder.name) / f"{self._files}.bin"
        try:
            # Written, not mapped: what a full disk does to memory that is mapped ends the process.
            with path.open("wb") as file:
                file.write(np.ascontiguousarray(array).view(np.uint8).data)
            return np.memmap(path, array.dtype, "r+", shape=array.shape)
        except OSError as error:
            reason = f"no room for activations ({reason_of(error)})"
            hint = "keep more of them in memory (--memory), or let TMPDIR name a larger folder"
            raise InputError(reason, where=self._folder.name, hint=hint) from None

    def drop(self, array: Array) -> None:
        """Forget an array."""
        if isinstance(array, np.memmap):
            Path(str(array.filename)).unlink(missing_ok=True)
        else:
            self._left += array.nbytes

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()


class Prefix:
    """How far a graph has been evaluated.

    Args:
        batches: the graph's inputs.
        store: where to keep what is needed later.
    """

    def __init__(self, batches: Iterable[Mapping[str, Array]], store: ActivationStore) -> None:
        self._store = store
        self._values: list[dict[str, Array]] = [{k: store.put(v) for k, v in b.items()} for b in batches]
        self._reached = 0

    def __len__(self) -> int:
        return len(self._values)

    def advance(
        self, graph: Graph, nodes: Collection[Node], later: Collection[Node], taps: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        """Evaluate nodes for every batch.

        Args:
            graph: the graph, as it is now; what was evaluated before may not have changed since.
            nodes: the nodes, whose inputs were evaluated before or are among them.
            later: nodes that will be evaluated later.
            taps: tensors to show, evaluated now or kept from before.

        Yields:
            The taps of each batch.
        """
        free = {n.index for n in free_nodes(graph)}
        nodes = [n for n in nodes if n.index not in free]
        made = {o for n in nodes for o in n.outputs if o}
        needed = {i for n in later if n.index not in free for i in reads(n)}
        outputs = sorted((needed | set(taps)) & made)
        run = self._runner(graph, nodes, outputs)
        for values in self._values:
            new = run(values)
            yield {name: new[name] if name in new else values[name] for name in taps}
            for name in [n for n in values if n not in needed]:
                self._store.drop(values.pop(name))
            values.update((name, self._store.put(new[name])) for name in new if name in needed)

    def reach(self, graph: Graph, index: int) -> None:
        """Evaluate all nodes before this one that have not been; the graph is the same each time."""
        if index > self._reached:
            for _ in self.advance(graph, graph.nodes[self._reached : index], graph.nodes[index:], ()):
                pass
            self._reached = index

    def probe(self, graph: Graph, outputs: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Evaluate another graph from here on, and keep nothing of it.

        Args:
            graph: a graph that doesn't differ in what has been evaluated.
            outputs: tensors that it gives behind this point.

        Yields:
            The outputs for each batch.
        """
        known = self._values[0] if self._values else {}
        left = ancestors(graph, outputs, known)
        run = self._runner(graph, [n for n in graph.nodes if n.index in left], outputs)
        for values in self._values:
            yield run(values)

    def _runner(self, graph: Graph, nodes: Sequence[Node], outputs: Sequence[str]) -> Any:
        if not outputs:
            return lambda _: {}
        inside = sorted(
            {n.index: n for n in (*nodes, *_sources(graph, nodes))}.values(), key=lambda n: n.index
        )
        made = {o for n in inside for o in n.outputs}
        first = self._values[0]
        inputs = {i: first[i].dtype for n in inside for i in reads(n) if i and i in first and i not in made}
        session = open_session(segment(graph, inside, inputs, outputs))
        return lambda values: session.run({name: np.asarray(values[name]) for name in inputs})


def reads(node: Node) -> tuple[str, ...]:
    """Every tensor that a node needs."""
    return (*node.inputs, *node.captured)


def behind(graph: Graph, tensors: Iterable[str], index: int) -> list[str]:
    """Those of these tensors that this node, or one after it, makes."""
    return [t for t in tensors if t in graph.producer and graph.producer[t].index >= index]


def free_nodes(graph: Graph) -> list[Node]:
    """Nodes that need no input of the graph: they are evaluated again wherever they are needed."""
    known = set(graph.constants) | {""}
    free = []
    for node in graph.nodes:
        if all(i in known for i in reads(node)) and not node.op.startswith("Random"):
            known.update(node.outputs)
            free.append(node)
    return free


def _sources(graph: Graph, nodes: Iterable[Node]) -> list[Node]:
    """The free nodes that these need."""
    free = {n.index for n in free_nodes(graph)}
    found: dict[int, Node] = {}
    pending = [i for n in nodes for i in reads(n)]
    while pending:
        node = graph.producer.get(pending.pop())
        if node is not None and node.index in free and node.index not in found:
            if not (node.op == "Constant" and node.outputs[0] in graph.constants):
                found[node.index] = node
            pending += reads(node)
    return list(found.values())


def ancestors(graph: Graph, names: Iterable[str], known: Container[str] = ()) -> set[int]:
    """Indices of all nodes that these tensors depend on, as far back as tensors are known."""
    found: set[int] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        node = None if name in known else graph.producer.get(name)
        if node is not None and node.index not in found:
            found.add(node.index)
            pending += reads(node)
    return found
