"""Branches of an If beside the rest of the graph, and back: there they can be analysed like anything else.

An If computes one of its branches. It gives the same if both are computed before it, and it only chooses:

    If(c) {then: y = f(x), else: y = g(x)}   is   a = f(x); b = g(x); If(c) {then: y = a, else: y = b}

`flattened` turns the first into the second, `unflattened` the second into the first.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto

from .core import Edits, Graph, Node, is_weight
from .nesting import bodies, captures, nested, own_names, rename, tensors

_BRANCHES = ("then_branch", "else_branch")
_KEY = "onnxprune.branches"
"""Where a flattened model notes what came out of branches; `unflattened` takes it out again."""

Wanted = Callable[[NodeProto], bool]


def holds_weights(n: NodeProto) -> bool:
    """Whether any branch of an If has weights of its own."""
    return any(is_weight(t) for a in n.attribute for body in (a.g, *nested(a.g)) for t in tensors(body))


def choice(node: Node) -> tuple[tuple[str, str], ...] | None:
    """For each output of an If what it chooses from, if choosing is all that it does; else `None`."""
    if node.op != "If":
        return None
    first, second = (_passed_on(node.attrs[name]) if name in node.attrs else None for name in _BRANCHES)
    return None if first is None or second is None else tuple(zip(first, second, strict=False))


def _passed_on(body: GraphProto) -> list[str] | None:
    """The tensors from around it that a body gives as they are; `None` if it computes anything."""
    if body.initializer or any(n.op_type != "Identity" or n.domain for n in body.node):
        return None
    made = {n.output[0]: n.input[0] for n in body.node}
    names = [made.get(v.name, "") for v in body.output]
    return names if all(name and name not in made for name in names) else None


# ---------------------------------------------------------------- out of the branches


def flattened(graph: Graph, wanted: Wanted = lambda _: True) -> Graph:
    """The graph with both branches of every If computed before it, which only chooses; itself without any.

    Names of tensors and nodes stay, unless others have them as well.

    Args:
        graph: the graph.
        wanted: which Ifs.
    """
    if not any(_is_if(n) and wanted(n) for n in _nodes(graph.model.graph)):
        return graph
    model = copy.deepcopy(graph.model)
    work = _Flattening(model, wanted)
    nodes = work.flat(model.graph.node, {})
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    note = model.metadata_props.add()
    note.key, note.value = _KEY, json.dumps({"branches": work.notes, "outside": sorted(graph.constants)})
    return Graph(model, graph.path, graph.held)


def _is_if(n: NodeProto) -> bool:
    """Whether a node is an If that computes something in a branch."""
    sides = _sides(n) if n.op_type == "If" and not n.domain else []
    return len(sides) == 2 and any(_passed_on(side.g) is None for side in sides)


def _nodes(proto: GraphProto) -> Iterator[NodeProto]:
    """All nodes, as deep as there are Ifs in Ifs."""
    for n in proto.node:
        yield n
        for a in n.attribute if _is_if(n) else ():
            yield from _nodes(a.g)


class _Flattening:
    """The state of one flattening.

    Args:
        model: gets what else is in branches; its nodes are given, and made.
        wanted: which Ifs to flatten.
    """

    def __init__(self, model: ModelProto, wanted: Wanted) -> None:
        self.notes: dict[str, list[Note]] = {}
        """First output of an If -> for each branch names of tensors and of nodes, now -> as they were."""
        self._model = model
        self._wanted = wanted
        protos = [model.graph, *nested(model.graph)]
        self._tensors = Counter(name for proto in protos for name in own_names(proto))
        self._names = Counter(n.name for proto in protos for n in proto.node)

    def flat(self, nodes: Iterable[NodeProto], names: Mapping[str, str]) -> list[NodeProto]:
        """Nodes of one graph, and of branches in it; `names`: what tensors are called now."""
        result: list[NodeProto] = []
        for given in nodes:
            n = NodeProto()
            n.CopyFrom(given)
            if _is_if(n) and self._wanted(n):
                result += self._branches(n, names)
            else:
                rename(n, names)
                result.append(n)
        return result

    def _branches(self, n: NodeProto, names: Mapping[str, str]) -> list[NodeProto]:
        key = names.get(n.output[0], n.output[0])
        made: list[NodeProto] = []
        self.notes[key] = []
        for side in _sides(n):
            prefix = f"{key}/{side.name.partition('_')[0]}"
            body = GraphProto()
            body.CopyFrom(side.g)
            own = {name: self._unique(name, prefix) for name in sorted(own_names(body))}
            named = {m.name: f"{prefix}/{m.name}" for m in body.node if m.name and self._names[m.name] > 1}
            inner = {**names, **own}
            for tensor in body.initializer:
                tensor.name = own[tensor.name]
                self._model.graph.initializer.append(tensor)
            for m in body.node:
                m.name = named.get(m.name, m.name)
            self._declare(body, own)
            made += self.flat(body.node, inner)
            note: Note = {
                "tensors": {v: k for k, v in own.items()},
                "nodes": {v: k for k, v in named.items()},
            }
            self.notes[key].append(note)
            _choose(side.g, [inner.get(v.name, v.name) for v in body.output], prefix)
        for links in (n.input, n.output):
            for k, name in enumerate(links):
                links[k] = names.get(name, name)
        return [*made, n]

    def _unique(self, name: str, prefix: str) -> str:
        return f"{prefix}/{name}" if self._tensors[name] > 1 else name

    def _declare(self, body: GraphProto, own: Mapping[str, str]) -> None:
        """What a body says of its tensors' shapes, and of its outputs', so that they follow."""
        known = {v.name for v in body.value_info}
        for v in [*body.value_info, *(v for v in body.output if v.name in own and v.name not in known)]:
            if v.type.tensor_type.HasField("shape"):
                value = self._model.graph.value_info.add()
                value.CopyFrom(v)
                value.name = own.get(v.name, v.name)


Note = dict[str, dict[str, str]]


def _sides(n: NodeProto) -> list[AttributeProto]:
    found = {a.name: a for a in n.attribute}
    return [found[name] for name in _BRANCHES if name in found]


def _choose(body: GraphProto, chosen: Iterable[str], prefix: str) -> None:
    """Make a body give tensors from around it."""
    del body.node[:]
    del body.initializer[:]
    del body.value_info[:]
    for k, (v, name) in enumerate(zip(body.output, chosen, strict=True)):
        v.name = f"{prefix}/chosen{k}"
        if v.type.HasField("tensor_type"):
            v.type.tensor_type.ClearField("shape")
        body.node.append(onnx.helper.make_node("Identity", [name], [v.name], name=v.name))


# ---------------------------------------------------------------- and back


def unflattened(graph: Graph) -> Graph:
    """A flattened graph with everything in a branch again that only the branch needs; any other graph itself.

    Nodes that were inserted go where what they read is. Names are as they were.
    """
    notes = next((p.value for p in graph.model.metadata_props if p.key == _KEY), None)
    if notes is None:
        return graph
    model = copy.deepcopy(graph.model)
    kept = [p for p in model.metadata_props if p.key != _KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    known = json.loads(notes)
    work = _Unflattening(model, set(known["outside"]))
    for position, n in enumerate(work.nodes):
        if n is not None and n.op_type == "If" and n.output[0] in known["branches"]:
            for side, note in zip(_sides(n), known["branches"][n.output[0]], strict=True):
                work.put_back(position, side, note)
    del model.graph.node[:]
    model.graph.node.extend(n for n in work.nodes if n is not None)
    return Graph(model, graph.path, graph.held)


def is_flattened(graph: Graph) -> bool:
    """Whether branches of an If were taken out of it."""
    return any(p.key == _KEY for p in graph.model.metadata_props)


def decided(graph: Graph) -> Iterator[Graph]:
    """A flattened graph with its conditions as constants, so often that every branch is taken once.

    Any other graph is given as it is.
    """
    choosers = {node.index: choice(node) for node in graph.nodes if choice(node) is not None}
    if not is_flattened(graph) or not choosers:
        yield graph
        return
    behind = {index: _ancestors(graph, index) for index in choosers}
    seen: list[dict[int, bool]] = []
    for index in choosers:
        for side in (True, False):
            taken = dict.fromkeys(choosers, True) | {index: side}
            for other, (then, other_side) in behind.items():
                if other != index and (index in then) != (index in other_side):
                    taken[other] = index in then
            if taken not in seen:
                seen.append(taken)
                yield graph.edited(Edits(literals={(i, 0): np.array(v) for i, v in taken.items()}))


def _ancestors(graph: Graph, chooser: int) -> tuple[set[int], set[int]]:
    """Indices of the nodes that either branch of an If needs."""
    pairs = choice(graph.nodes[chooser]) or ()
    sides: list[set[int]] = []
    for names in zip(*pairs, strict=True):
        found: set[int] = set()
        wanted = [*names]
        while wanted:
            node = graph.producer.get(wanted.pop())
            if node is not None and node.index not in found:
                found.add(node.index)
                wanted += [*node.inputs, *node.captured]
        sides.append(found)
    return sides[0], sides[1]


class _Unflattening:
    """The state of one unflattening.

    Args:
        model: changed on the way, but for its nodes.
        outside: constants that stay around the branches.

    Attributes:
        nodes: those of the model; `None` in place of what has gone into a branch.
    """

    def __init__(self, model: ModelProto, outside: set[str]) -> None:
        self.nodes: list[NodeProto | None] = []
        for given in model.graph.node:
            n = NodeProto()
            n.CopyFrom(given)
            self.nodes.append(n)
        self._proto = model.graph
        self._outside = outside

    def put_back(self, position: int, side: AttributeProto, note: Note) -> None:
        """Move what only one branch of the If at `position` needs into it."""
        body = side.g
        made = {m.output[0]: m.input[0] for m in body.node}
        chosen = [made[v.name] for v in body.output]
        moved = self._moved(position, side, self._inside(position, note))
        nodes = [n for n in (self.nodes[p] for p in moved) if n is not None]
        for p in moved:
            self.nodes[p] = None
        constants = self._constants(nodes)
        own = {o for n in nodes for o in n.output if o} | constants
        passing = [m for m in body.node if m.input[0] not in own or chosen.count(m.input[0]) > 1]
        types = self._types(own)
        for v, name in zip(body.output, chosen, strict=True):
            if name in own and chosen.count(name) == 1:
                v.name = name
                v.type.CopyFrom(types.pop(name, v.type))
        back = {now: was for now, was in note["tensors"].items() if now in own}
        nodes += [copy.deepcopy(m) for m in passing]
        del body.node[:]
        for n in nodes:
            rename(n, back)
            n.name = note["nodes"].get(n.name, n.name)
            body.node.append(n)
        for name, kind in types.items():
            body.value_info.add(name=name, type=kind)
        body.initializer.extend(self._taken(self._proto.initializer, constants))
        self._taken(self._proto.input, constants)
        for values in (body.initializer, body.value_info, body.output):
            for value in values:
                value.name = back.get(value.name, value.name)

    def _inside(self, position: int, note: Note) -> set[str]:
        """Tensors that came out of a branch, and what is made of them before its If."""
        inside = set(note["tensors"])
        for n in self.nodes[:position]:
            if n is not None and not inside.isdisjoint(reads(n)):
                inside.update(n.output)
        return inside

    def _moved(self, position: int, side: AttributeProto, inside: set[str]) -> list[int]:
        """Positions of nodes that nothing but this branch needs, ascending."""
        readers: dict[str, set[int]] = {v.name: {-1} for v in self._proto.output}
        for p, n in enumerate(self.nodes):
            for name in reads(n) if n is not None else ():
                readers.setdefault(name, set()).add(p)
        here = self.nodes[position]
        elsewhere = set(here.input) if here is not None else set()
        for a in here.attribute if here is not None else ():
            if a.name != side.name:
                elsewhere.update(captures(a.g))
        found: set[int] = set()
        for p in range(position - 1, -1, -1):
            n = self.nodes[p]
            if n is None or inside.isdisjoint(n.output):
                continue
            outputs = {o for o in n.output if o}
            users = set[int]().union(*(readers.get(o, set()) for o in outputs))
            if users and users <= {*found, position} and outputs.isdisjoint(elsewhere):
                found.add(p)
        return sorted(found)

    def _constants(self, nodes: Iterable[NodeProto]) -> set[str]:
        """Initializers that nothing but these nodes reads, and that were not outside."""
        own = {name for n in nodes for name in reads(n)}
        rest = {name for n in self.nodes if n is not None for name in reads(n)} | {
            v.name for v in self._proto.output
        }
        return {t.name for t in self._proto.initializer if t.name in own - rest} - self._outside

    def _types(self, names: set[str]) -> dict[str, TypeProto]:
        """Declared types of these tensors, which are taken out."""
        return {v.name: v.type for v in self._taken(self._proto.value_info, names)}

    @staticmethod
    def _taken(values: Any, names: set[str]) -> list[Any]:
        """Those of these names, taken out of a list."""
        taken: list[Any] = []
        rest: list[Any] = []
        for value in values:
            (taken if value.name in names else rest).append(copy.deepcopy(value))
        del values[:]
        values.extend(rest)
        return taken


def reads(n: NodeProto) -> Iterator[str]:
    """The tensors that a node reads, and that its bodies read from around them."""
    yield from (name for name in n.input if name)
    for _, body in bodies(n):
        yield from captures(body)
