"""Mutations of files: each is a name and two numbers, so that a case is short, shrinks, and can be kept.

The numbers say where and what: they are taken modulo the choices that there are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper


class Edit(NamedTuple):
    """One mutation.

    Attributes:
        name: of the mutation.
        where: which of the places.
        what: which of the values.
    """

    name: str
    where: int
    what: int


NAMES = (
    "",
    "x",
    "t0_0",
    "w0",
    "\x1b[31mred\x1b[0m",
    "line\nbreak",
    "::error::no",
    "##[error]no",
    "a\u202eb",
    "\x00",
    "n" * 5000,
    "[bold]",
    "-",
    "../../x",
    "ÄÖ字",
)
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63), 10**6)
_OPERATORS = """
Relu Conv ConvTranspose Gemm MatMul Reshape Transpose Concat Split Slice Gather Softmax Shape Constant Pad
TopK LayerNormalization ConstantOfShape Expand Tile Identity Resize LSTM If Loop Einsum Nonsense
ReduceMean Squeeze DequantizeLinear
"""
OPERATORS = tuple(_OPERATORS.split())


def _pick(values: Sequence[Any], number: int) -> Any:
    return values[number % len(values)]


# ---------------------------------------------------------------- models


def _graphs(model: ModelProto) -> Iterator[GraphProto]:
    def inner(graph: GraphProto) -> Iterator[GraphProto]:
        yield graph
        for node in graph.node:
            for a in node.attribute:
                if a.type == AttributeProto.GRAPH:
                    yield from inner(a.g)

    yield from inner(model.graph)


def _nodes(model: ModelProto) -> list[NodeProto]:
    nodes = [node for graph in _graphs(model) for node in graph.node]
    return nodes + [node for function in model.functions for node in function.node]


def _tensors(model: ModelProto) -> list[TensorProto]:
    return [tensor for graph in _graphs(model) for tensor in graph.initializer]


def _values(model: ModelProto) -> list[ValueInfoProto]:
    return [v for g in _graphs(model) for v in (*g.input, *g.output, *g.value_info)]


def _at_node(change: Callable[[NodeProto, int], None]) -> Callable[[ModelProto, int, int], None]:
    def edit(model: ModelProto, where: int, what: int) -> None:
        if nodes := _nodes(model):
            change(_pick(nodes, where), what)

    return edit


def _at_attribute(change: Callable[[AttributeProto, int], None]) -> Callable[[ModelProto, int, int], None]:
    def edit(model: ModelProto, where: int, what: int) -> None:
        if found := [a for node in _nodes(model) for a in node.attribute]:
            change(_pick(found, where), what)

    return edit


def _at_tensor(change: Callable[[TensorProto, int], None]) -> Callable[[ModelProto, int, int], None]:
    def edit(model: ModelProto, where: int, what: int) -> None:
        if found := _tensors(model):
            change(_pick(found, where), what)

    return edit


def _at_value(change: Callable[[ValueInfoProto, int], None]) -> Callable[[ModelProto, int, int], None]:
    def edit(model: ModelProto, where: int, what: int) -> None:
        if found := _values(model):
            change(_pick(found, where), what)

    return edit


def _remove(values: Any, number: int) -> None:
    if len(values):
        del values[number % len(values)]


def _set(values: Any, number: int, value: Any) -> None:
    if len(values):
        values[number % len(values)] = value


def _retyped(a: AttributeProto, what: int) -> None:
    value = _pick([1.5, 3, b"text", [1, 2], [0.5], "NOTSET", [0], [-1, 0, 7]], what)
    a.CopyFrom(helper.make_attribute(a.name, value))


def _numbered(a: AttributeProto, what: int) -> None:
    number = _pick(NUMBERS, what)
    if a.type == AttributeProto.INT:
        a.i = number
    elif a.type == AttributeProto.INTS:
        _set(a.ints, what, number)
    elif a.type == AttributeProto.FLOAT:
        a.f = float(number)


def _referring(a: AttributeProto, _what: int) -> None:
    a.ref_attr_name = "other"


def _reshaped(t: TensorProto, what: int) -> None:
    if t.dims:
        _set(t.dims, what, _pick(NUMBERS, what // 7))
    else:
        t.dims.append(_pick(NUMBERS, what))


def _ranked(t: TensorProto, what: int) -> None:
    """Other axes, equally many values."""
    dims = list(t.dims)
    changed = _pick([[*dims, 1], [1, *dims], dims[::-1], [*dims[1:], *dims[:1]], [len(dims) and 1]], what)
    del t.dims[:]
    t.dims.extend(changed)


def _cut(t: TensorProto, what: int) -> None:
    data = t.raw_data
    t.raw_data = data[: what % (len(data) + 1)]


def _poisoned(t: TensorProto, what: int) -> None:
    if t.data_type == TensorProto.FLOAT and t.raw_data:
        data = bytearray(t.raw_data)
        at = 4 * (what % (len(data) // 4))
        data[at : at + 4] = struct.pack("<f", _pick([float("nan"), float("inf"), 1e38, -1e38, 0.0], what))
        t.raw_data = bytes(data)


def _elsewhere(t: TensorProto, what: int) -> None:
    t.data_location = TensorProto.EXTERNAL
    place = _pick(["w.bin", "../w.bin", "/dev/zero", "x" * 5000, "", "m.onnx", "a\0b"], what)
    t.external_data.add(key="location", value=place)
    t.external_data.add(key="length", value=str(_pick(NUMBERS, what // 7)))


def _sized(v: ValueInfoProto, what: int) -> None:
    dims = v.type.tensor_type.shape.dim
    if dims:
        dims[what % len(dims)].dim_value = _pick(NUMBERS, what // 5)
    else:
        dims.add().dim_value = _pick(NUMBERS, what)


def _symbolic(v: ValueInfoProto, what: int) -> None:
    dims = v.type.tensor_type.shape.dim
    if dims:
        dims[what % len(dims)].dim_param = _pick(NAMES, what // 5)


def _unranked(v: ValueInfoProto, _what: int) -> None:
    v.type.tensor_type.ClearField("shape")


def _other_type(v: ValueInfoProto, what: int) -> None:
    v.type.tensor_type.elem_type = _pick([0, 1, 2, 7, 8, 9, 10, 16, 17, 22, 29, 99], what)


def _untyped(v: ValueInfoProto, _what: int) -> None:
    v.ClearField("type")


def _declared(model: ModelProto, where: int, what: int) -> None:
    """A declared shape of any tensor, right or wrong."""
    names = [o for node in _nodes(model) for o in node.output]
    if names:
        shape = _pick([[1], [1, 2, 3, 4], [0, 5], [-1, 3], ["a", 4], [2**40], []], what)
        made = helper.make_tensor_value_info(_pick(names, where), TensorProto.FLOAT, shape)
        model.graph.value_info.append(made)


def _node_again(model: ModelProto, where: int, _what: int) -> None:
    if model.graph.node:
        model.graph.node.add().CopyFrom(_pick(model.graph.node, where))


def _node_gone(model: ModelProto, where: int, _what: int) -> None:
    _remove(model.graph.node, where)


def _order(model: ModelProto, where: int, what: int) -> None:
    nodes = list(model.graph.node)
    if nodes:
        moved = NodeProto.FromString(nodes[where % len(nodes)].SerializeToString())
        del model.graph.node[where % len(nodes)]
        model.graph.node.insert(what % len(nodes), moved)


def _output(model: ModelProto, where: int, what: int) -> None:
    names = [o for node in model.graph.node for o in node.output] + [v.name for v in model.graph.input]
    if what % 3 == 0:
        _remove(model.graph.output, where)
    elif names:
        model.graph.output.add(name=_pick(names, where))


def _inserted(model: ModelProto, where: int, what: int) -> None:
    """A node of any operator behind any tensor, with its readers behind it."""
    names = [o for node in model.graph.node for o in node.output if o]
    if names:
        name = _pick(names, where)
        for node in model.graph.node:
            for k, read in enumerate(node.input):
                node.input[k] = "inserted" if read == name else read
        model.graph.node.append(
            helper.make_node(_pick(OPERATORS, what), [name], ["inserted"], name="inserted")
        )


def _doubling(model: ModelProto, where: int, what: int) -> None:
    """Functions that call functions, twice each."""
    for k in range(what % 40):
        calls = [helper.make_node(f"F{k + 1}", ["a"], [b], domain="own") for b in "bc"]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", f"F{k}", ["a"], ["c"], calls, opsets))
    last = helper.make_node(_pick(["Relu", "F0"], where), ["a"], ["c"], domain=_pick(["", "own"], where))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", f"F{what % 40}", ["a"], ["c"], [last], opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    if model.graph.node and model.graph.node[0].output:
        model.graph.node.append(helper.make_node("F0", [model.graph.node[0].output[0]], ["f"], domain="own"))
        model.graph.output.add(name="f")


def _version(model: ModelProto, where: int, what: int) -> None:
    if where % 2:
        model.ir_version = _pick([0, 1, 3, 4, 10, 99, 2**40], what)
    elif model.opset_import:
        _pick(model.opset_import, where // 2).version = _pick([0, 1, 5, 7, 11, 13, 18, 22, 999, -1], what)


MODEL_EDITS: Mapping[str, Callable[[ModelProto, int, int], None]] = MappingProxyType(
    {
        "drop an input": _at_node(lambda n, what: _remove(n.input, what)),
        "empty an input": _at_node(lambda n, what: _set(n.input, what, "")),
        "rename an input": _at_node(lambda n, what: _set(n.input, what, _pick(NAMES, what // 7))),
        "add an input": _at_node(lambda n, what: n.input.append(_pick(["x", "w0", "t0_0", ""], what))),
        "drop an output": _at_node(lambda n, what: _remove(n.output, what)),
        "rename an output": _at_node(lambda n, what: _set(n.output, what, _pick(NAMES, what // 7))),
        "add an output": _at_node(lambda n, what: n.output.append(_pick(NAMES, what))),
        "rename a node": _at_node(lambda n, what: setattr(n, "name", _pick(NAMES, what))),
        "change an operator": _at_node(lambda n, what: setattr(n, "op_type", _pick(OPERATORS, what))),
        "change a domain": _at_node(
            lambda n, what: setattr(n, "domain", _pick(["", "com.microsoft", "own"], what))
        ),
        "drop an attribute": _at_node(lambda n, what: _remove(n.attribute, what)),
        "retype an attribute": _at_attribute(_retyped),
        "change an attribute": _at_attribute(_numbered),
        "refer from an attribute": _at_attribute(_referring),
        "rename an attribute": _at_attribute(lambda a, what: setattr(a, "name", _pick(NAMES, what))),
        "change a dimension": _at_tensor(_reshaped),
        "change a rank": _at_tensor(_ranked),
        "change a type": _at_tensor(lambda t, what: setattr(t, "data_type", what % 30)),
        "cut values": _at_tensor(_cut),
        "poison values": _at_tensor(_poisoned),
        "move values": _at_tensor(_elsewhere),
        "rename a weight": _at_tensor(lambda t, what: setattr(t, "name", _pick(NAMES, what))),
        "size a value": _at_value(_sized),
        "name a size": _at_value(_symbolic),
        "unrank a value": _at_value(_unranked),
        "retype a value": _at_value(_other_type),
        "untype a value": _at_value(_untyped),
        "rename a value": _at_value(lambda v, what: setattr(v, "name", _pick(NAMES, what))),
        "declare a shape": _declared,
        "repeat a node": _node_again,
        "remove a node": _node_gone,
        "move a node": _order,
        "change outputs": _output,
        "insert a node": _inserted,
        "double functions": _doubling,
        "change a version": _version,
    }
)


def mutated_model(model: ModelProto, edits: Sequence[Edit]) -> bytes:
    """A model with edits, as a file."""
    for edit in edits:
        MODEL_EDITS[edit.name](model, edit.where, edit.what)
    return model.SerializeToString(deterministic=True)


# ---------------------------------------------------------------- bytes


_TOKENS = (
    b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 8, b"NaN", b"-1", b"1e999", b"null", b"true", b'"', b"{",
    b"[", b"9" * 400, b"\x1b[2J", b"\xf0\x28\x8c\x28", b"../", b"%00", b"PK\x03\x04",
    b"\x93NUMPY", b"(" * 300,
)  # fmt: skip


def _flip(data: bytearray, where: int, what: int) -> None:
    if data:
        data[where % len(data)] ^= 1 + what % 255


def _take(data: bytearray, where: int, what: int) -> None:
    at = where % (len(data) + 1)
    del data[at : at + 1 + what % 64]


def _put(data: bytearray, where: int, what: int) -> None:
    at = where % (len(data) + 1)
    data[at:at] = _pick(_TOKENS, what)


def _over(data: bytearray, where: int, what: int) -> None:
    at, token = where % (len(data) + 1), _pick(_TOKENS, what)
    data[at : at + len(token)] = token


def _double(data: bytearray, where: int, what: int) -> None:
    at = where % (len(data) + 1)
    data[at:at] = data[at : at + 1 + what % 64]


def _end(data: bytearray, where: int, _what: int) -> None:
    del data[where % (len(data) + 1) :]


BYTE_EDITS: Mapping[str, Callable[[bytearray, int, int], None]] = MappingProxyType(
    {
        "flip a byte": _flip,
        "take bytes": _take,
        "put bytes": _put,
        "write over bytes": _over,
        "double bytes": _double,
        "end early": _end,
    }
)


def mutated_bytes(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Bytes with edits."""
    found = bytearray(data)
    for edit in edits:
        BYTE_EDITS[edit.name](found, edit.where, edit.what)
    return bytes(found)


# ---------------------------------------------------------------- JSON


_VALUES: tuple[Any, ...] = (
    None, True, 0, 0.0, -1, 1.5, 10**30, 10**400, float("nan"), float("inf"), "", "x",
    "\x1b[31m", [], [0], {}, "1e5",
)  # fmt: skip


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Containers and keys, of everything in JSON."""
    found = []
    keys = data.keys() if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in keys:
        found.append((data, key))
        found += _places(data[key])
    return found


def _replace(container: Any, key: Any, what: int) -> None:
    container[key] = _pick(_VALUES, what)


def _delete(container: Any, key: Any, _what: int) -> None:
    del container[key]


_TEXTS = (
    "[" * 50 + "]" * 50,
    "[" * 20_000 + "]" * 20_000,
    '{"a":' * 3000 + "0" + "}" * 3000,
    "9" * 5000,
    "1e400",
)
"""JSON that Python's own writer doesn't write."""


def _write(container: Any, key: Any, what: int) -> None:
    container[key] = f"@{what % len(_TEXTS)}@"


def _shift(container: Any, key: Any, what: int) -> None:
    if isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] += _pick(NUMBERS, what)


JSON_EDITS: Mapping[str, Callable[[Any, Any, int], None]] = MappingProxyType(
    {
        "replace a value": _replace,
        "delete a value": _delete,
        "write a value": _write,
        "shift a number": _shift,
    }
)


def mutated_json(text: str, edits: Sequence[Edit]) -> bytes:
    """JSON with edits."""
    data = json.loads(text)
    for edit in edits:
        if places := _places(data):
            container, key = _pick(places, edit.where)
            JSON_EDITS[edit.name](container, key, edit.what)
    written = json.dumps(data)
    for number, value in enumerate(_TEXTS):
        written = written.replace(f'"@{number}@"', value)
    return written.encode()
