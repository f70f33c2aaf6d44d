"""States of recurrent layers that the caller keeps: inputs of the network that outputs are fed back into.

Their width is the caller's, so it can't change. Where the caller can follow, a matrix goes behind such an
input and before such an output: the identity, until units go. What is between is as narrow as the layer, and
the rest of a run needs to know nothing of it. In the end both matrices are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts.rewrite import NotApplied
from ..graph import Array, Edits, Facts, Graph, Network, Node, make_node
from ..ops import recurrent
from ..types import Units

_SLOTS = ((5, 1), (6, 2))
"""Where a recurrent layer reads a state, and where it gives the state after it."""


@dataclass(frozen=True)
class State:
    """An input of a graph, and the output that is fed back into it."""

    given: str
    made: str

    @property
    def entry(self) -> str:
        """What the layer reads, behind the matrix."""
        return f"{self.given}.kept"

    @property
    def exit(self) -> str:
        """What the layer gives, before the matrix."""
        return f"{self.given}.{self.made}.kept"


@dataclass(frozen=True)
class StatesInside:
    """Matrices between the states that the caller keeps and those of the layers."""

    name: str = "narrowing states"

    def __call__(self, network: Network) -> Network:
        """See `Rewrite`."""
        found = states(network.graph, network.facts)
        if not found:
            raise NotApplied("no state of a recurrent layer is both an input and an output of the model")
        graph = network.graph
        for state in found:
            width = (network.facts.shapes[state.given] or (0,))[-1]
            matrix = np.eye(width, dtype=network.facts.dtypes[state.given])
            graph = _with_exit(_with_entry(graph, state, matrix), state, matrix)
        return network.of(graph)


def states(graph: Graph, facts: Facts) -> tuple[State, ...]:
    """The states that a caller keeps, as far as there is no doubt which output belongs to which input."""
    made_of: dict[str, set[str]] = {}
    for node in graph.nodes:
        for given, made in _kept(graph, node):
            made_of.setdefault(given, set()).update(made)
    pairs = [State(given, next(iter(made))) for given, made in made_of.items() if len(made) == 1]
    alone = {made for made in (p.made for p in pairs) if sum(p.made == made for p in pairs) == 1}
    return tuple(p for p in pairs if p.made in alone and _is_alike(facts, p))


def inside(graph: Graph) -> tuple[State, ...]:
    """The states that `StatesInside` has put matrices to."""
    outputs = {name: node for name in graph.outputs if (node := graph.producer.get(name)) is not None}
    found = []
    for given in graph.inputs:
        for name, node in outputs.items():
            state = State(given, name)
            if state.entry in graph.producer and node.inputs[:1] == (state.exit,):
                found.append(state)
    return tuple(found)


def narrowed(graph: Graph, found: Sequence[State]) -> tuple[Graph, Mapping[str, Units]]:
    """The graph with states as narrow as its layers.

    Args:
        graph: with matrices.
        found: its states.

    Returns:
        The graph without them; and for each input, which of its former entries it has, along the last axis.
    """
    kept: dict[str, Units] = {}
    for state in found:
        matrix = graph.array(graph.producer[state.entry].inputs[1])
        kept[state.given] = np.argmax(matrix.astype(np.float64), axis=0)
        graph = _without_exit(_without_entry(graph, state, matrix.shape[1]), state, matrix.shape[1])
    return graph, kept


def _kept(graph: Graph, node: Node) -> Iterator[tuple[str, set[str]]]:
    """Inputs of the graph that a layer starts from, and outputs that its last states go to."""
    if node.op not in recurrent.RULES:
        return
    for slot, output in _SLOTS:
        if slot < len(node.inputs) and output < len(node.outputs) and node.inputs[slot]:
            given = recurrent.given_state(graph, node.inputs[slot])
            if given is not None and node.outputs[output]:
                yield given, _ends(graph, node.outputs[output])


def _ends(graph: Graph, name: str) -> set[str]:
    """Outputs of the graph that a tensor becomes, moved or cut, but not changed."""
    wanted, seen = [name], {name}
    while wanted:
        for node, _ in graph.readers.get(wanted.pop(), ()):
            if node.op in recurrent.REARRANGING:
                new = {o for o in node.outputs if o} - seen
                seen |= new
                wanted += sorted(new)
    return seen & set(graph.outputs)


def _is_alike(facts: Facts, state: State) -> bool:
    before, after = facts.shapes.get(state.given), facts.shapes.get(state.made)
    return before is not None and len(before) > 1 and before == after


def _with_entry(graph: Graph, state: State, matrix: Array) -> Graph:
    edits = Edits(added={f"{state.entry}.matrix": matrix})
    first = min(node.index for node, _ in graph.readers[state.given])
    made = make_node("MatMul", [state.given, f"{state.entry}.matrix"], [state.entry], state.entry)
    edits.before[first] = [made]
    _read_instead(graph, state.given, state.entry, edits)
    return graph.edited(edits)


def _with_exit(graph: Graph, state: State, matrix: Array) -> Graph:
    edits = Edits(added={f"{state.exit}.matrix": matrix})
    source = graph.producer[state.made]
    last = make_node("MatMul", [state.exit, f"{state.exit}.matrix"], [state.made], state.exit)
    edits.replaced[source.index] = [_renamed(graph, source, state.made, state.exit), last]
    _read_instead(graph, state.made, state.exit, edits)
    return graph.edited(edits)


def _without_entry(graph: Graph, state: State, width: int) -> Graph:
    axis = (graph.rank_of(state.given) or 1) - 1
    edits = Edits(shapes={state.given: {axis: width}}, replaced={graph.producer[state.entry].index: []})
    _read_instead(graph, state.entry, state.given, edits)
    return graph.edited(edits)


def _without_exit(graph: Graph, state: State, width: int) -> Graph:
    axis = (graph.rank_of(state.made) or 1) - 1
    source, last = graph.producer[state.exit], graph.producer[state.made]
    edits = Edits(shapes={state.made: {axis: width}}, replaced={last.index: []})
    edits.replaced[source.index] = [_renamed(graph, source, state.exit, state.made)]
    _read_instead(graph, state.exit, state.made, edits, but=last.index)
    return graph.edited(edits)


def _renamed(graph: Graph, node: Node, old: str, new: str) -> Any:
    """A copy of a node with another name for one of its outputs."""
    made = copy.deepcopy(graph.model.graph.node[node.index])
    for k, name in enumerate(made.output):
        if name == old:
            made.output[k] = new
    return made


def _read_instead(graph: Graph, old: str, new: str, edits: Edits, but: int = -1) -> None:
    for node, i in graph.readers.get(old, ()):
        if node.index != but:
            edits.rewire[node.index, i] = new
