"""The form of a model: checked once, where it is read, so that nothing behind it has to ask.

What is refused here, ONNX Runtime refuses as well, or no name in Python could stand for it. What it runs
although onnx's checker complains (nodes in any order, an initializer twice, a graph without a name) is put in
order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
)

from ..errors import InputError
from .signatures import signature
from .tensors import KNOWN_TYPES, flaw

_STANDARD = frozenset({"", "ai.onnx"})

_POSITIVE = frozenset(
    {
        "bits",
        "block_size",
        "blocksize",
        "dilations",
        "group",
        "hidden_size",
        "kernel_shape",
        "kv_num_heads",
        "num_groups",
        "num_heads",
        "num_outputs",
        "offset_group",
        "q_num_heads",
        "strides",
    }
)
"""Attributes that are sizes or counts, whatever the operator; elsewhere 0 is a default that means none."""

_ZERO_IS_NONE = frozenset({"block_size", "q_num_heads", "kv_num_heads", "num_heads"})


def settled(model: ModelProto, where: str) -> None:
    """Refuse a model that is no graph of operators, and put what may come in any order into ONNX's own.

    Args:
        model: the parsed model, its local functions inlined; nodes are sorted, and initializers that nothing
            can read are dropped, in place.
        where: its file, for messages.

    Raises:
        InputError: naming the first node, tensor or name that is wrong.
    """
    if model.ir_version < 1:
        raise InputError("has no IR version", where=where, hint="export it again")
    opsets = {"" if o.domain in _STANDARD else o.domain: o.version for o in model.opset_import}
    _Form(opsets, where).settle(model.graph)


# ---------------------------------------------------------------- names


def require_names(message: Any, where: str) -> None:
    """Refuse names that aren't text; of descriptions, bytes that aren't are replaced.

    Protobuf gives such a string as bytes.

    Raises:
        InputError: a name isn't UTF-8.
    """
    for field, value in _fields(message):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                require_names(inner, where)
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in [value] if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    _replaced(message, field, text, where)


def _fields(message: Any) -> Iterable[tuple[Any, Any]]:
    """What is set in a message; values of tensors are passed over, as each look at them is a copy."""
    if not isinstance(message, TensorProto):
        return list(message.ListFields())
    skipped = ("name", "doc_string", "external_data", "metadata_props")
    return [(message.DESCRIPTOR.fields_by_name[name], getattr(message, name)) for name in skipped]


def _replaced(message: Any, field: Any, text: bytes, where: str) -> None:
    shown = text.decode("utf-8", "replace")
    if field.name not in ("doc_string", "producer_name", "producer_version", "value"):
        kind = type(message).__name__.removesuffix("Proto").lower()
        reason = f"the {field.name} '{shown}' of a {kind} is not UTF-8"
        raise InputError(reason, where=where, hint="export the model with other names")
    setattr(message, field.name, shown)


# ---------------------------------------------------------------- graphs


class _Node(NamedTuple):
    """A node, with what it reads: its inputs, and what its bodies take from around them."""

    proto: NodeProto
    reads: frozenset[str]


class _Form:
    """Checks of one model.

    Args:
        opsets: domain -> version.
        where: the model's file, for messages.
    """

    def __init__(self, opsets: Mapping[str, int], where: str) -> None:
        self._opsets = opsets
        self._where = where

    def settle(self, graph: GraphProto) -> None:
        """Check the main graph, and sort it."""
        for value in graph.input:
            self._typed(value)
        made = self._made(graph, frozenset())
        nodes = [_Node(n, self._checked(n, made)) for n in graph.node]
        order = self._sorted(nodes)
        if order != list(range(len(nodes))):
            moved = [NodeProto.FromString(nodes[k].proto.SerializeToString()) for k in order]
            del graph.node[:]
            graph.node.extend(moved)
        self._outputs(graph, made)

    def _body(self, body: GraphProto, outer: frozenset[str]) -> frozenset[str]:
        """Check the body of a node; returns what it reads of the graphs around it.

        Args:
            body: the body.
            outer: all that is made around it.
        """
        made = self._made(body, outer)
        known = made - {o for n in body.node for o in n.output}
        read: set[str] = set()
        for n in body.node:
            reads = self._checked(n, made | outer)
            if late := next((name for name in n.input if name not in known | outer and name), None):
                raise self._wrong(n, f"reads '{late}' before it is made")
            known |= set(n.output)
            read |= reads - made
        self._outputs(body, made)
        return frozenset(read)

    def _made(self, graph: GraphProto, outer: frozenset[str]) -> frozenset[str]:
        """Names of all tensors of a graph, each made once; initializers that can't be read are dropped."""
        self._initializers(graph)
        stored = {t.name for t in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
        given: set[str] = set()
        for value in graph.input:
            if not value.name or value.name in given:
                reason = (
                    f"lists the input '{value.name}' twice" if value.name else "has an input without a name"
                )
                raise InputError(reason, where=self._where)
            given.add(value.name)
        made = given | stored
        for n in graph.node:
            for name in filter(None, n.output):
                if name in made or name in outer:
                    raise self._wrong(n, f"makes '{name}', which something else makes already")
                made.add(name)
        return frozenset(made)

    def _initializers(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self._tensor(tensor)
        for sparse in graph.sparse_initializer:
            self._sparse(sparse)
        first: dict[str, TensorProto] = {}
        again = []
        for k, tensor in enumerate(graph.initializer):
            if tensor.name and first.setdefault(tensor.name, tensor) != tensor:
                # Which one counts differs between versions of ONNX Runtime.
                reason = f"two initializers of the name '{tensor.name}' differ"
                raise InputError(reason, where=self._where, hint="export it again")
            if not tensor.name or first[tensor.name] is not tensor:
                again.append(k)
        for k in reversed(again):
            del graph.initializer[k]

    def _outputs(self, graph: GraphProto, made: frozenset[str]) -> None:
        for value in graph.output:
            if value.name not in made:
                reason = (
                    f"nothing makes its output '{value.name}'"
                    if value.name
                    else "has an output without a name"
                )
                raise InputError(reason, where=self._where)
            if value.type.HasField("tensor_type"):
                self._element(value)
        for value in graph.value_info:
            if value.type.HasField("tensor_type"):
                self._element(value)

    def _typed(self, value: ValueInfoProto) -> None:
        if value.type.WhichOneof("value") is None:
            raise InputError(f"its input '{value.name}' has no type", where=self._where)
        if value.type.HasField("tensor_type"):
            if not value.type.tensor_type.elem_type:
                raise InputError(f"its input '{value.name}' has no type of elements", where=self._where)
            self._element(value)

    def _element(self, value: ValueInfoProto) -> None:
        elem = value.type.tensor_type.elem_type
        if elem and elem not in KNOWN_TYPES:
            raise InputError(f"'{value.name}' has an unknown type of elements ({elem})", where=self._where)

    # ------------------------------------------------------------ nodes

    def _checked(self, n: NodeProto, made: frozenset[str]) -> frozenset[str]:
        """Check a node; returns what it and its bodies read."""
        if not n.op_type:
            raise self._wrong(n, "has no operator")
        for name in filter(None, n.input):
            if name not in made:
                raise self._wrong(n, f"reads '{name}', which nothing makes")
        if not any(n.output):
            raise self._wrong(n, "has no outputs")
        self._attributes(n)
        self._fits(n)
        captured = (self._body(body, made) for body in _bodies(n))
        return frozenset(chain(filter(None, n.input), *captured))

    def _fits(self, n: NodeProto) -> None:
        """Compare a node with its operator, if that is known."""
        domain = "" if n.domain in _STANDARD else n.domain
        known = signature(n.op_type, self._opsets.get(domain, 0), domain)
        if known is None:
            return
        for what, have, (least, most) in (
            ("input", len(n.input), known.inputs),
            ("output", len(n.output), known.outputs),
        ):
            if not least <= have <= most:
                raise self._wrong(n, f"has {have} {what}{'s' * (have != 1)}, and takes {_range(least, most)}")
        for index, name in enumerate(n.input):
            if not name and index in known.needed:
                raise self._wrong(n, f"has no input {index}, which it needs")
        given = {a.name: a.type for a in n.attribute}
        for name, kind in given.items():
            if (wanted := known.types.get(name, kind)) != kind:
                types = AttributeProto.AttributeType
                raise self._wrong(n, f"attribute '{name}' is {types.Name(kind)}, not {types.Name(wanted)}")
        for name in sorted(known.required - given.keys()):
            raise self._wrong(n, f"has no attribute '{name}', which it needs")
        self._branches(n, domain)

    def _branches(self, n: NodeProto, domain: str) -> None:
        if domain or n.op_type not in ("If", "Loop"):
            return
        more = n.op_type == "Loop"  # its body also gives whether to go on
        for body in _bodies(n):
            if len(body.output) != len(n.output) + more:
                reason = f"a body gives {len(body.output)} values, and it has {len(n.output)} outputs"
                raise self._wrong(n, reason)
            if len(body.input) != (len(n.input) if more else 0):
                raise self._wrong(
                    n, f"a body takes {len(body.input)} values, and it has {len(n.input)} inputs"
                )

    def _attributes(self, n: NodeProto) -> None:
        seen: set[str] = set()
        for a in n.attribute:
            if not a.name or a.name in seen:
                raise self._wrong(
                    n, f"has attribute '{a.name}' twice" if a.name else "has an attribute without name"
                )
            seen.add(a.name)
            if a.ref_attr_name:
                raise self._wrong(
                    n, f"attribute '{a.name}' refers to '{a.ref_attr_name}' of a function, and is in none"
                )
            if a.type not in AttributeProto.AttributeType.values() or a.type == AttributeProto.UNDEFINED:
                raise self._wrong(n, f"attribute '{a.name}' has no type that is known")
            if a.name in _POSITIVE and a.type in (AttributeProto.INT, AttributeProto.INTS):
                least = 0 if a.name in _ZERO_IS_NONE else 1
                for value in [a.i] if a.type == AttributeProto.INT else a.ints:
                    if value < least:
                        raise self._wrong(n, f"attribute '{a.name}' is {value}")
            for tensor in [a.t] if a.type == AttributeProto.TENSOR else a.tensors:
                self._tensor(tensor, n)
            if a.type == AttributeProto.SPARSE_TENSOR:
                self._sparse(a.sparse_tensor)
        if n.op_type == "Constant" and n.domain in _STANDARD and not seen:
            raise self._wrong(n, "has no value")

    def _tensor(self, tensor: TensorProto, n: NodeProto | None = None) -> None:
        if wrong := flaw(tensor):
            if n is not None:
                raise self._wrong(n, f"its tensor {wrong}")
            raise InputError(f"tensor '{tensor.name}' {wrong}", where=self._where, hint="export it again")

    def _sparse(self, sparse: SparseTensorProto) -> None:
        self._tensor(sparse.values)
        self._tensor(sparse.indices)

    def _wrong(self, n: NodeProto, reason: str) -> InputError:
        op = n.op_type or "unknown operator"
        name = n.name or next(filter(None, n.output), "")
        node = f"{op} '{name}'" if name else f"unnamed {op}"
        return InputError(reason, where=f"{self._where}: {node}")

    # ------------------------------------------------------------ order

    def _sorted(self, nodes: Sequence[_Node]) -> list[int]:
        """The order in which each node comes after what it reads, and else as it was.

        Raises:
            InputError: there is none.
        """
        maker = {name: k for k, node in enumerate(nodes) for name in node.proto.output if name}
        waits = [{maker[name] for name in node.reads if name in maker} for node in nodes]
        if all(k > max(before, default=-1) for k, before in enumerate(waits)):
            return list(range(len(nodes)))
        readers: list[list[int]] = [[] for _ in nodes]
        for k, before in enumerate(waits):
            for other in before:
                readers[other].append(k)
        left = [len(before) for before in waits]
        ready = [k for k, count in enumerate(left) if not count]
        order: list[int] = []
        while ready:
            order.append(heapq.heappop(ready))
            for k in readers[order[-1]]:
                left[k] -= 1
                if not left[k]:
                    heapq.heappush(ready, k)
        if len(order) < len(nodes):
            first = min(set(range(len(nodes))) - set(order))
            raise self._wrong(nodes[first].proto, "reads what is made from its own output: a cycle")
        return order


def _bodies(n: NodeProto) -> Iterator[GraphProto]:
    for a in n.attribute:
        yield from [a.g] if a.type == AttributeProto.GRAPH else a.graphs


def _range(least: int, most: int) -> str:
    if least == most:
        return str(least)
    return f"{least} or more" if most == 2**31 - 1 else f"{least} to {most}"
