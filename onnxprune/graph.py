"""ONNX models as graphs of nodes: load, save, shapes, values, edits.

The only module that imports onnx and onnx_graphsurgeon. A `Graph` is never changed: `Graph.edited`
returns a new one, so that analysis can't mutate and every stage may keep what it was given.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import os
import re
import tempfile
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.external_data_helper as external
import onnx.inliner
import onnx.reference
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

from .errors import InputError
from .shapes import BASES, SHAPES

Array = NDArray[Any]
Shape = tuple[int, ...]

PROTOBUF_LIMIT = 2**31 - 1
VALUE_LIMIT = 1 << 14
"""Tensors of more elements than this are data, never shape arithmetic."""

TINY = 16
"""Constants of up to this many elements may say a shape, whatever their dtype (the scales of a Resize)."""

_VALUE_TYPES = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})
_STANDARD = frozenset({"", "ai.onnx"})


@dataclass(frozen=True)
class Node:
    """One node, with attributes as Python values (graphs as `GraphProto`)."""

    index: int
    op: str
    """Operator type; those of a domain other than ai.onnx read `domain:Type`."""
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    captured: tuple[str, ...] = ()
    """Outer tensors that the node's subgraphs read."""

    def __str__(self) -> str:
        return f"{self.op} '{self.name or self.outputs[0]}'"


@dataclass
class Edits:
    """What to change in a graph; `Graph.edited` carries it out on a copy."""

    constants: dict[str, Array] = field(default_factory=dict)
    """New value of a constant, under its own name."""
    literals: dict[tuple[int, int], Array] = field(default_factory=dict)
    """(node index, input index) -> a value that only this input shall read."""
    attrs: dict[tuple[int, str], Any] = field(default_factory=dict)
    """(node index, attribute) -> new value; `None` removes it."""
    folded: dict[int, Array] = field(default_factory=dict)
    """Nodes to replace with a constant, under the name of their first output."""
    shapes: dict[str, dict[int, int]] = field(default_factory=dict)
    """tensor -> axis -> new length, for the recorded shapes of intermediate values."""
    before: dict[int, list[NodeProto]] = field(default_factory=dict)
    """Node index -> nodes to insert right before it."""
    rewire: dict[tuple[int, int], str] = field(default_factory=dict)
    """(node index, input index) -> the tensor to read instead."""
    added: dict[str, Array] = field(default_factory=dict)
    """New initializers."""

    def __bool__(self) -> bool:
        return any(
            (self.constants, self.literals, self.attrs, self.folded, self.before, self.rewire, self.added)
        )


class Graph:
    """An ONNX model with its nodes, constants and links, read only.

    Args:
        model: the parsed model; owned by the graph from now on.
        path: where it came from, for messages and for external data.
    """

    def __init__(self, model: ModelProto, path: Path | None = None) -> None:
        self.model = model
        self.path = path
        proto = model.graph
        self.constants: dict[str, TensorProto] = {t.name: t for t in proto.initializer}
        self.nodes: tuple[Node, ...] = tuple(_node(i, n) for i, n in enumerate(proto.node))
        for node, n in zip(self.nodes, proto.node, strict=True):
            if node.op == "Constant" and (tensor := _constant(n)) is not None:
                self.constants[n.output[0]] = tensor
        self.inputs: tuple[str, ...] = tuple(v.name for v in proto.input if v.name not in self.constants)
        self.outputs: tuple[str, ...] = tuple(v.name for v in proto.output)
        self.producer: dict[str, Node] = {o: n for n in self.nodes for o in n.outputs if o}
        self.readers: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for i, name in enumerate(node.inputs):
                self.readers.setdefault(name, []).append((node, i))
            for name in node.captured:
                self.readers.setdefault(name, []).append((node, -1))

    @property
    def where(self) -> str:
        """The file, for messages."""
        return str(self.path) if self.path else "model"

    def opset(self, domain: str = "") -> int:
        """The version of an operator set, 0 where it is not imported."""
        same = _STANDARD if domain in _STANDARD else {domain}
        return max((o.version for o in self.model.opset_import if o.domain in same), default=0)

    def array(self, name: str) -> Array:
        """The value of a constant, in the dtype it is stored in (ml_dtypes for bfloat16 and friends).

        Raises:
            InputError: what is stored isn't what the shape says, or can't be read.
        """
        tensor = self.constants[name]
        try:
            return numpy_helper.to_array(tensor, str(self.path.parent) if self.path else "")
        except (ValueError, TypeError, OSError, onnx.checker.ValidationError) as error:
            raise InputError(f"tensor '{name}' can't be read ({error})", where=self.where) from None

    def shape_of_constant(self, name: str) -> Shape:
        """The shape of a constant, without reading its value."""
        return tuple(self.constants[name].dims)

    def dtype(self, name: str) -> np.dtype[Any]:
        """The numpy dtype of a constant."""
        return onnx.helper.tensor_dtype_to_np_dtype(self.constants[name].data_type)

    def parameters(self) -> int:
        """The number of values in floating-point or quantised constants of more than one element."""
        counted = (t for t in self.constants.values() if t.data_type not in _VALUE_TYPES)
        return sum(size for t in counted if (size := int(np.prod(t.dims, dtype=np.int64))) > 1)

    def operators(self) -> Counter[str]:
        """How often each operator is used, also in the bodies of If, Loop and Scan; Constant nodes apart."""
        return Counter(op for op in _operators(self.model.graph) if op != "Constant")

    def nbytes(self, name: str) -> int:
        """Bytes that a constant takes in memory, without reading it."""
        return nbytes(self.dtype(name), self.shape_of_constant(name))

    def fingerprint(self) -> str:
        """SHA-256 over what a plan depends on: nodes, their links, names and shapes of constants."""
        digest = hashlib.sha256()
        for node in self.nodes:
            digest.update(repr((node.op, node.inputs, node.outputs)).encode())
        for name in sorted(self.constants):
            digest.update(repr((name, self.shape_of_constant(name))).encode())
        return digest.hexdigest()

    def size(self) -> int:
        """Bytes of the model as one file."""
        return self.model.ByteSize()

    def serialized(self) -> bytes:
        """The model as bytes.

        Raises:
            InputError: it is larger than protobuf allows; use `on_disk`.
        """
        if self.size() > PROTOBUF_LIMIT:
            raise InputError("the model is larger than 2 GB", where=self.where)
        return self.model.SerializeToString(deterministic=True)

    def edited(self, edits: Edits) -> Graph:
        """A copy with the edits carried out."""
        return Graph(_apply(self, edits), self.path)

    def tapped(self, outputs: Sequence[str]) -> Graph:
        """A copy that gives the named tensors, too, as outputs after its own."""
        model = copy.deepcopy(self.model)
        have = set(self.outputs)
        for name in dict.fromkeys(outputs):
            if name not in have:
                model.graph.output.add().name = name
        return Graph(model, self.path)


# ---------------------------------------------------------------- reading


def _node(index: int, n: NodeProto) -> Node:
    op = n.op_type if n.domain in _STANDARD else f"{n.domain}:{n.op_type}"
    attrs: dict[str, Any] = {}
    captured: list[str] = []
    for a in n.attribute:
        value = onnx.helper.get_attribute_value(a)
        attrs[a.name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for body in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
            captured += _captures(body)
    return Node(index, op, n.name, tuple(n.input), tuple(n.output), attrs, tuple(dict.fromkeys(captured)))


def _operators(body: GraphProto) -> Iterator[str]:
    for n in body.node:
        yield n.op_type if n.domain in _STANDARD else f"{n.domain}:{n.op_type}"
        for a in n.attribute:
            for inner in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
                yield from _operators(inner)


def type_text(value: onnx.ValueInfoProto) -> str:
    """The type of an input or output for people: `float32[batch, 3, 224, 224]`."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return str(value.type.WhichOneof("value") or "unknown").removesuffix("_type")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "unknown"
    if not tensor.HasField("shape"):
        return f"{dtype}[...]"
    dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    return f"{dtype}[{', '.join(dims)}]"


def nbytes(dtype: np.dtype[Any], shape: Shape) -> int:
    """Bytes of a tensor; types of fewer than eight bits are packed, as ONNX stores them."""
    packed = re.match(r"u?(?:int|float)([24])(?:_|$)", dtype.name)
    bits = int(packed[1]) if packed else 8 * dtype.itemsize
    return -(-int(np.prod(shape, dtype=np.int64)) * bits // 8)


def _captures(body: GraphProto) -> list[str]:
    own = (
        {v.name for v in body.input}
        | {t.name for t in body.initializer}
        | {o for n in body.node for o in n.output}
    )
    read = [i for n in body.node for i in n.input] + [v.name for v in body.output]
    nested = [
        c
        for n in body.node
        for a in n.attribute
        for b in ([a.g] if a.type == AttributeProto.GRAPH else a.graphs)
        for c in _captures(b)
    ]
    return [name for name in read + nested if name and name not in own]


def _constant(n: NodeProto) -> TensorProto | None:
    for a in n.attribute:
        if a.name == "value":
            return a.t
        if a.name.startswith("value_") and a.name not in ("value_string", "value_strings"):
            value = onnx.helper.get_attribute_value(a)
            dtype = np.int64 if a.name.startswith("value_int") else np.float32
            return numpy_helper.from_array(np.asarray(value, dtype), n.output[0])
    return None


def load(path: str | os.PathLike[str], *, weights: bool = True) -> Graph:
    """Read an ONNX file; local functions are inlined.

    Args:
        path: the file.
        weights: read external data as well; without it only the graph itself is read.

    Raises:
        InputError: there is no such file, it is not an ONNX model, or its external data is missing or
            lies outside the model's folder.
    """
    file = Path(path)
    model = _parse(file)
    _load_external(model, file, weights)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return Graph(model, file)


def external_files(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Files that hold weights of a model, relative to its folder, whether they exist or not.

    Raises:
        InputError: there is no such file, or it is not an ONNX model.
    """
    file = Path(path)
    tensors = external._get_all_tensors(_parse(file))
    return tuple(sorted({_place(t, file)[0] for t in tensors if external.uses_external_data(t)}))


def _place(tensor: TensorProto, file: Path) -> tuple[str, int]:
    """The file that holds a tensor's external data, and the byte there at which it ends."""
    entries = {e.key: e.value for e in tensor.external_data}
    try:
        return entries["location"], int(entries.get("offset", 0)) + int(entries.get("length", 0))
    except (KeyError, ValueError):
        reason = f"external data of tensor '{tensor.name}' has no place"
        raise InputError(reason, where=str(file)) from None


def _parse(file: Path) -> ModelProto:
    where = str(file)
    if file.is_dir():
        raise InputError("is a directory", where=where, hint="name an .onnx file")
    try:
        if file.exists() and not file.is_file():  # a pipe can be read only once, or waits for ever
            raise InputError("is a device, not a file", where=where, hint="name an .onnx file")
        data = file.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", where=where) from None
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror})", where=where) from None
    if not data:
        raise InputError("the file is empty", where=where)
    if data.startswith(b"version https://git-lfs"):
        raise InputError("is a git-lfs pointer, not the model", where=where, hint="run 'git lfs pull'")
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise InputError("is not an ONNX model, or is truncated", where=where) from None
    if not model.HasField("graph") or not model.opset_import or not model.graph.output:
        raise InputError("is not an ONNX model: no graph, outputs or opset", where=where)
    return model


def _load_external(model: ModelProto, file: Path, weights: bool) -> None:
    folder = file.parent.resolve()
    for tensor in external._get_all_tensors(model):
        if not external.uses_external_data(tensor):
            continue
        location, end = _place(tensor, file)
        target = (folder / location).resolve()
        if not target.is_relative_to(folder):
            reason = f"external data '{location}' of tensor '{tensor.name}' lies outside the model's folder"
            raise InputError(reason, where=str(file))
        if not target.is_file():
            reason = f"external data file '{location}' of tensor '{tensor.name}' is missing"
            raise InputError(reason, where=str(file), hint="put it beside the model")
        if (size := target.stat().st_size) < end:
            reason = f"is truncated: tensor '{tensor.name}' ends at byte {end} of {size}"
            raise InputError(f"external data file '{location}' {reason}", where=str(file))
        if weights:
            try:
                external.load_external_data_for_tensor(tensor, str(folder))
            except (ValueError, OSError, onnx.checker.ValidationError) as error:
                reason = f"external data of tensor '{tensor.name}' can't be read ({error})"
                raise InputError(reason, where=str(file)) from None
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def require_finite(graph: Graph) -> None:
    """Refuse weights that are NaN or infinite: no score or repair means anything on them.

    Lone values and constants of few distinct values (attention masks hold -inf on purpose) pass.

    Raises:
        InputError: naming the first such constant.
    """
    for name, tensor in graph.constants.items():
        if tensor.data_type in _VALUE_TYPES or np.prod(tensor.dims, dtype=np.int64) <= 1:
            continue
        values = graph.array(name)
        if not np.issubdtype(values.dtype, np.floating):
            continue
        nan = bool(np.isnan(values).any())
        if nan or (np.isinf(values).any() and np.isfinite(values).sum() > 0 and len(np.unique(values)) > 2):
            what = "NaN" if nan else "infinity"
            raise InputError(
                f"weight '{name}' holds {what}", where=graph.where, hint="repair or re-export the model"
            )


# ---------------------------------------------------------------- inputs


@dataclass(frozen=True)
class InputSpec:
    """An input of a model: one entry of `shape` per axis, a size, the name of a symbolic one, or `None`."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


def input_specs(graph: Graph) -> tuple[InputSpec, ...]:
    """What the model needs, in its own order.

    Raises:
        InputError: an input is no tensor of numbers.
    """
    specs = []
    for v in graph.model.graph.input:
        if v.name in graph.constants:
            continue
        tensor = v.type.tensor_type
        if not v.type.HasField("tensor_type") or tensor.elem_type in (
            TensorProto.UNDEFINED,
            TensorProto.STRING,
        ):
            raise InputError(f"input '{v.name}' is no tensor of numbers", where=graph.where)
        dims = tensor.shape.dim
        shape = tuple(d.dim_value if d.dim_value > 0 else d.dim_param or None for d in dims)
        specs.append(InputSpec(v.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape))
    return tuple(specs)


def read_tensor(path: Path) -> tuple[str, Array]:
    """Name and value of a TensorProto in a file, as ONNX's test data has them.

    Raises:
        InputError: the file holds something else.
    """
    tensor = TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return tensor.name, numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError, OSError) as error:
        raise InputError(f"is not a TensorProto ({error})", where=str(path)) from None


# ---------------------------------------------------------------- writing


def save(graph: Graph, path: str | os.PathLike[str]) -> int:
    """Write the model; the file appears whole or not at all. Returns the bytes written.

    Weights go to `<name>.data` beside it only where one file would exceed protobuf's 2 GB.

    Raises:
        InputError: the folder can't be written to.
    """
    file = Path(path)
    if graph.size() <= PROTOBUF_LIMIT:
        return write_atomic(file, graph.serialized())
    model = copy.deepcopy(graph.model)
    with _temporary(file.with_name(file.name + ".data")) as data:
        external.convert_model_to_external_data(model, location=data.name, size_threshold=1024)
        external.write_external_data_tensors(model, str(file.parent))
        size = data.stat().st_size
        for tensor in external._get_all_tensors(model):
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = file.name + ".data"
    return size + write_atomic(file, model.SerializeToString(deterministic=True))


def write_atomic(file: Path, data: bytes) -> int:
    """Write bytes so that the file appears whole or not at all; returns their number.

    Raises:
        InputError: the folder can't be written to.
    """
    with _temporary(file) as temporary:
        temporary.write_bytes(data)
    return len(data)


@contextlib.contextmanager
def _temporary(file: Path) -> Iterator[Path]:
    """A name beside `file` that becomes it on success and vanishes on failure."""
    try:
        if file.exists() and not file.is_file():  # root could put a file in the place of /dev/null
            reason = "is a directory" if file.is_dir() else "is a device, not a file"
            raise InputError(reason, where=str(file))
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(f"can't be written ({error.strerror})", where=str(file)) from None
    try:
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(file)
    except OSError as error:
        raise InputError(f"can't be written ({error.strerror})", where=str(file)) from None
    finally:
        Path(name).unlink(missing_ok=True)


# ---------------------------------------------------------------- editing


def _tensor(array: Array, name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array, order="C"), name)


def _apply(graph: Graph, edits: Edits) -> ModelProto:
    model = copy.deepcopy(graph.model)
    proto = model.graph
    initializers = {t.name: t for t in proto.initializer}
    taken = set(initializers) | {o for n in proto.node for o in n.output} | {v.name for v in proto.input}
    for name, array in edits.constants.items():
        target = initializers.get(name)
        if target is None:
            n = proto.node[graph.producer[name].index]
            del n.attribute[:]
            n.attribute.append(onnx.helper.make_attribute("value", _tensor(array, name)))
        else:
            doc = target.doc_string
            target.CopyFrom(_tensor(array, name))
            target.doc_string = doc
        for v in [*proto.input, *proto.value_info]:
            if v.name == name:
                _resize(v, dict(enumerate(array.shape)))
    for name, array in edits.added.items():
        proto.initializer.append(_tensor(array, name))
        taken.add(name)
    _put_literals(graph, proto, edits, taken)
    for (index, i), name in edits.rewire.items():
        n = proto.node[index]
        n.input.extend([""] * (i + 1 - len(n.input)))
        n.input[i] = name
    for (index, key), value in edits.attrs.items():
        n = proto.node[index]
        kept = [a for a in n.attribute if a.name != key]
        del n.attribute[:]
        n.attribute.extend(kept)
        if value is not None:
            n.attribute.append(onnx.helper.make_attribute(key, value))
    for index, array in edits.folded.items():
        proto.initializer.append(_tensor(array, proto.node[index].output[0]))
    if edits.folded or edits.before:
        nodes: list[NodeProto] = []
        for index, n in enumerate(proto.node):
            nodes += edits.before.get(index, [])
            if index not in edits.folded:
                nodes.append(n)
        nodes = [copy.deepcopy(n) for n in nodes]
        del proto.node[:]
        proto.node.extend(nodes)
    for v in [*proto.value_info, *proto.output]:
        if v.name in edits.shapes:
            _resize(v, edits.shapes[v.name])
    _drop_unread(proto, graph, edits)
    return model


def _put_literals(graph: Graph, proto: GraphProto, edits: Edits, taken: set[str]) -> None:
    """Values that one input alone reads: under the old name, if nothing else reads that."""
    initializers = {t.name: t for t in proto.initializer}
    for (index, i), array in edits.literals.items():
        n = proto.node[index]
        old = n.input[i] if i < len(n.input) else ""
        if old in initializers and _is_read_once(graph, old, edits):
            initializers[old].CopyFrom(_tensor(array, old))
            continue
        name = _fresh_name(f"{old or n.output[0]}.pruned", taken)
        proto.initializer.append(_tensor(array, name))
        n.input.extend([""] * (i + 1 - len(n.input)))
        n.input[i] = name


def _is_read_once(graph: Graph, name: str, edits: Edits) -> bool:
    """Whether a constant has one reader, now and with the nodes that are inserted."""
    inserted = any(name in n.input for nodes in edits.before.values() for n in nodes)
    listed = name in graph.outputs or any(v.name == name for v in graph.model.graph.input)
    return len(graph.readers[name]) == 1 and not inserted and not listed and name not in edits.rewire.values()


def _fresh_name(base: str, taken: set[str]) -> str:
    name, k = base, 0
    while name in taken:
        k += 1
        name = f"{base}.{k}"
    taken.add(name)
    return name


def _resize(value: onnx.ValueInfoProto, lengths: Mapping[int, int]) -> None:
    dims = value.type.tensor_type.shape.dim
    for axis, length in lengths.items():
        if axis < len(dims) and dims[axis].HasField("dim_value"):
            dims[axis].dim_value = length


def _drop_unread(proto: GraphProto, graph: Graph, edits: Edits) -> None:
    """Constants and nodes that only the replaced inputs read would be dead weight."""
    replaced = [*edits.literals, *edits.rewire]
    unread = {graph.nodes[n].inputs[i] for n, i in replaced if i < len(graph.nodes[n].inputs)}
    unread |= {i for n in edits.folded for i in graph.nodes[n].inputs}
    kept = {c for node in graph.nodes for c in node.captured} | {v.name for v in proto.output}
    while unread:
        read = kept | {i for n in proto.node for i in n.input}
        unread -= read
        dead = [k for k, n in enumerate(proto.node) if unread & set(n.output) and not read & set(n.output)]
        again = {i for k in dead for i in proto.node[k].input}
        for index in reversed(dead):
            del proto.node[index]
        for values in (proto.initializer, proto.input):
            for index in reversed(range(len(values))):
                if values[index].name in unread and values[index].name in graph.constants:
                    del values[index]
        unread = again


def make_node(op: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attrs: Any) -> NodeProto:
    """A node to insert; `op` may read `domain:Type`."""
    domain, _, kind = op.rpartition(":")
    return onnx.helper.make_node(kind, list(inputs), list(outputs), name=name, domain=domain, **attrs)


def between(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """The part of the graph that computes `outputs` from `inputs`, as a graph of its own.

    Values of the cut tensors keep their names. Shapes of new inputs are left open.
    """
    model = ModelProto()
    model.CopyFrom(graph.model)
    isolated = gs.import_onnx(model)
    tensors = isolated.tensors()
    isolated.inputs = [tensors[name] for name in inputs]
    isolated.outputs = [tensors[name] for name in outputs]
    for tensor in isolated.inputs:
        tensor.inputs.clear()
    return Graph(gs.export_onnx(isolated.cleanup(), do_type_check=False), graph.path)


def cut(graph: Graph, nodes: Sequence[Node], facts: Facts) -> Graph:
    """Some nodes alone, as a model that runs on the shapes of `facts`.

    Tensors that come from other nodes are its inputs, except for shape arithmetic, whose known values
    are built in. What other nodes read is an output.

    Raises:
        InputError: the shape or dtype of an input isn't known.
    """
    made = {name for node in nodes for name in node.outputs if name}
    indices = {node.index for node in nodes}
    inputs: list[onnx.ValueInfoProto] = []
    constants: list[TensorProto] = []
    for name in dict.fromkeys(
        i for node in nodes for i in (*node.inputs, *node.captured) if i and i not in made
    ):
        shape, dtype = facts.shapes.get(name), facts.dtypes.get(name)
        if name in graph.constants:
            constants.append(_tensor(graph.array(name), name))
        elif name in facts.values:
            constants.append(_tensor(facts.values[name], name))
        elif shape is None or dtype is None:
            raise InputError(f"the shape of '{name}' isn't known", where=graph.where)
        else:
            elem = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            inputs.append(onnx.helper.make_tensor_value_info(name, elem, shape))
    read = {name for name in made if any(n.index not in indices for n, _ in graph.readers.get(name, ()))}
    outputs = [
        onnx.ValueInfoProto(name=o) for n in nodes for o in n.outputs if o in read or o in graph.outputs
    ]
    proto = onnx.helper.make_graph(
        [graph.model.graph.node[node.index] for node in nodes], "part", inputs, outputs, constants
    )
    model = onnx.helper.make_model(
        proto, opset_imports=list(graph.model.opset_import), ir_version=graph.model.ir_version
    )
    return Graph(model, graph.path)


def segment(
    graph: Graph, nodes: Iterable[Node], inputs: Mapping[str, np.dtype[Any]], outputs: Sequence[str]
) -> Graph:
    """Some nodes as a model of their own, with the constants that they read.

    Args:
        graph: where they are from.
        nodes: the nodes, in order.
        inputs: what they need from others, with dtypes; shapes are left open.
        outputs: what to compute.
    """
    model = ModelProto(ir_version=graph.model.ir_version, opset_import=graph.model.opset_import)
    part = model.graph
    part.name = "segment"
    part.node.extend(graph.model.graph.node[node.index] for node in nodes)
    made = {name for n in part.node for name in n.output}
    read = dict.fromkeys(name for node in nodes for name in (*node.inputs, *node.captured))
    for name in read:
        if name in graph.constants and name not in made:
            part.initializer.append(graph.constants[name])
            part.initializer[-1].name = name
    for name, dtype in inputs.items():
        part.input.add(name=name).type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    for name in outputs:
        part.output.add().name = name
    return Graph(model, graph.path)


@dataclass(frozen=True)
class Appended:
    """A node to append, named as its only output."""

    op: str
    inputs: Sequence[str]
    output: str
    attrs: Mapping[str, Any]


def appended(
    graph: Graph,
    nodes: Sequence[Appended],
    constants: Mapping[str, Array],
    inputs: Mapping[str, tuple[np.dtype[Any], Sequence[int | None]]],
    outputs: Sequence[str],
) -> Graph:
    """The graph with more nodes, giving only `outputs`; what they don't need is left out.

    Args:
        graph: the graph.
        nodes: in the order they run.
        constants: what they read beside the graph's own tensors.
        inputs: new inputs of the graph: name -> dtype and shape.
        outputs: the graph's only outputs from now on; their types are left to the runtime.
    """
    model = copy.deepcopy(graph.model)
    proto = model.graph
    proto.node.extend(make_node(n.op, n.inputs, [n.output], n.output, **n.attrs) for n in nodes)
    proto.initializer.extend(_tensor(array, name) for name, array in constants.items())
    for name, (dtype, shape) in inputs.items():
        elem = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        proto.input.append(onnx.helper.make_tensor_value_info(name, elem, list(shape)))
    del proto.output[:]
    for name in outputs:
        proto.output.add().name = name
    whole = Graph(model, graph.path)
    needed, wanted = set(), list(outputs)
    while wanted:
        node = whole.producer.get(wanted.pop())
        if node is not None and node.index not in needed:
            needed.add(node.index)
            wanted += [*node.inputs, *node.captured]
    for index in reversed(range(len(proto.node))):
        if index not in needed:
            del proto.node[index]
    return Graph(model, graph.path)


def with_known_branches(graph: Graph, facts: Facts) -> Graph:
    """The graph with each If of known condition replaced by the branch that it takes."""
    taken = {
        n.index: n.attrs["then_branch" if facts.values[n.inputs[0]].item() else "else_branch"]
        for n in graph.nodes
        if n.op == "If" and n.inputs[0] in facts.values and not facts.is_dynamic(n.inputs[0])
    }
    if not taken:
        return graph
    model = copy.deepcopy(graph.model)
    nodes: list[NodeProto] = []
    for index, n in enumerate(model.graph.node):
        nodes += _branch(model.graph, n, taken[index]) if index in taken else [copy.deepcopy(n)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return Graph(model, graph.path)


def _branch(proto: GraphProto, n: NodeProto, body: GraphProto) -> list[NodeProto]:
    """The nodes of a branch, under names of their own; its initializers go to the graph."""
    names = {o: f"{n.output[0]}/{o}" for b in body.node for o in b.output if o}
    names |= {t.name: f"{n.output[0]}/{t.name}" for t in body.initializer}
    result = []
    for t in body.initializer:
        moved = proto.initializer.add()
        moved.CopyFrom(t)
        moved.name = names[t.name]
    for b in body.node:
        node = NodeProto()
        node.CopyFrom(b)
        _rename(node, names)
        result.append(node)
    for inner, outer in zip(body.output, n.output, strict=True):
        result.append(
            onnx.helper.make_node(
                "Identity", [names.get(inner.name, inner.name)], [outer], name=f"{outer}/taken"
            )
        )
    return result


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    """Tensor names of a node and of the bodies it holds; what a body defines itself hides outer names."""
    for field_ in (node.input, node.output):
        for k, name in enumerate(field_):
            field_[k] = names.get(name, name)
    for a in node.attribute:
        for body in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
            own = (
                {v.name for v in body.input}
                | {t.name for t in body.initializer}
                | {o for b in body.node for o in b.output}
            )
            outer = {k: v for k, v in names.items() if k not in own}
            for b in body.node:
                _rename(b, outer)
            for v in body.output:
                v.name = outer.get(v.name, v.name)


# ---------------------------------------------------------------- shapes and values


@dataclass(frozen=True)
class Facts:
    """Shapes and known values of all tensors, for one choice of the symbolic dimensions.

    Attributes:
        shapes: tensor -> shape, or `None` where inference does not reach.
        values: tensor -> value, for shape arithmetic and lone constants.
        dynamic: tensor -> mask over its value: which elements depend on symbolic dimensions.
        dims: the choice made for each symbolic dimension.
        dtypes: tensor -> dtype, where known.
    """

    shapes: Mapping[str, Shape | None]
    values: Mapping[str, Array]
    dynamic: Mapping[str, NDArray[np.bool_]]
    dims: Mapping[str, int]
    dtypes: Mapping[str, np.dtype[Any]]

    def is_dynamic(self, name: str) -> bool:
        """Whether any element of a known value depends on symbolic dimensions."""
        return name in self.dynamic and bool(self.dynamic[name].any())


def symbolic_dims(graph: Graph) -> dict[str, tuple[int, int]]:
    """Name of each symbolic input dimension -> (rank of the input, axis). Unnamed ones get a name."""
    found: dict[str, tuple[int, int]] = {}
    for v in graph.model.graph.input:
        if v.name in graph.constants:
            continue
        dims = v.type.tensor_type.shape.dim
        for axis, d in enumerate(dims):
            if not d.HasField("dim_value") or d.dim_value <= 0:
                found.setdefault(d.dim_param or f"{v.name}[{axis}]", (len(dims), axis))
    return found


def one_sample(graph: Graph, batch: int = 1) -> dict[str, int]:
    """A size for the first axis of every input where it is symbolic: one sample."""
    return {name: batch for name, (_, axis) in symbolic_dims(graph).items() if axis == 0}


def _guess(rank: int, axis: int, spatial: int, sequence: int, batch: int) -> int:
    if axis == 0:
        return batch
    return spatial if rank >= 4 and axis >= 2 else sequence


def infer(graph: Graph, dims: Mapping[str, int] | None = None) -> Facts:
    """Shapes of all tensors and values of all shape arithmetic.

    Symbolic dimensions are given a concrete size (from `dims`, else a guess by rank and axis), and
    a second one to see which values depend on them.
    """
    symbols = symbolic_dims(graph)
    given = dict(dims or {})

    def choose(spatial: int, sequence: int, batch: int) -> dict[str, int]:
        return {s: given.get(s) or _guess(r, a, spatial, sequence, batch) for s, (r, a) in symbols.items()}

    first = choose(64, 16, 3)
    shapes, values, types = _propagate(graph, first)
    if symbols and sum(s is None for s in shapes.values()) > 0:
        other = choose(224, 16, 3)
        alternative = _propagate(graph, other)
        if sum(s is None for s in alternative[0].values()) < sum(s is None for s in shapes.values()):
            first, (shapes, values, types) = other, alternative
    dynamic: dict[str, NDArray[np.bool_]] = {}
    if symbols:
        second = {s: 5 if a == 0 else first[s] + 32 for s, (_, a) in symbols.items()}
        _, moved, _ = _propagate(graph, second)
        for name, value in values.items():
            other_value = moved.get(name)
            same = other_value is not None and other_value.shape == value.shape
            dynamic[name] = np.asarray(value != other_value) if same else np.ones(value.shape, bool)
    return Facts(shapes, values, dynamic, first, _dtypes(types))


def _dtypes(types: Mapping[str, TypeProto]) -> dict[str, np.dtype[Any]]:
    known = {name: t.tensor_type.elem_type for name, t in types.items() if t.tensor_type.elem_type}
    return {name: onnx.helper.tensor_dtype_to_np_dtype(elem) for name, elem in known.items()}


def _propagate(
    graph: Graph, dims: Mapping[str, int]
) -> tuple[dict[str, Shape | None], dict[str, Array], dict[str, TypeProto]]:
    shapes: dict[str, Shape | None] = {}
    types: dict[str, TypeProto] = {}
    values: dict[str, Array] = {}
    sizes: dict[str, Array] = {}
    known_sizes = ChainMap(values, sizes)
    for name, tensor in graph.constants.items():
        shapes[name] = tuple(tensor.dims)
        types[name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        if is_value(tensor.data_type, shapes[name] or ()):
            values[name] = graph.array(name)
        elif _is_tiny(graph, name) and tensor.data_type != TensorProto.STRING:
            sizes[name] = graph.array(name)
    for v in graph.model.graph.input:
        if v.name not in graph.constants and v.type.HasField("tensor_type"):
            shape = tuple(
                d.dim_value if d.dim_value > 0 else dims.get(d.dim_param or f"{v.name}[{axis}]", 1)
                for axis, d in enumerate(v.type.tensor_type.shape.dim)
            )
            shapes[v.name] = shape if v.type.tensor_type.HasField("shape") else None
            types[v.name] = onnx.helper.make_tensor_type_proto(v.type.tensor_type.elem_type, shapes[v.name])
    declared = {v.name: v for v in [*graph.model.graph.value_info, *graph.model.graph.output]}
    for node in graph.nodes:
        if node.op == "Constant":
            continue
        known = evaluate(graph, node, shapes, values)
        if known is not None:
            for name, value in zip(node.outputs, known, strict=False):
                if name:
                    shapes[name] = value.shape
                    elem = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
                    types[name] = onnx.helper.make_tensor_type_proto(elem, value.shape)
                    if value.size <= VALUE_LIMIT:
                        values[name] = value
            continue
        made = evaluate(graph, node, shapes, known_sizes)
        sizes.update((o, v) for o, v in zip(node.outputs, made or [], strict=False) if o and v.size <= TINY)
        inferred = _infer_node(graph, node, types, known_sizes)
        for name in filter(None, node.outputs):
            proto = inferred.get(name)
            shapes[name] = _static(proto) if proto is not None else None
            if shapes[name] is None and name in declared:
                shapes[name] = _static(declared[name].type)
                proto = proto if proto is not None and proto.HasField("tensor_type") else declared[name].type
            if proto is not None:
                types[name] = proto
    return shapes, values, types


def is_value(data_type: int, shape: Shape) -> bool:
    """Whether a constant may take part in shape arithmetic: small integers, or a lone number."""
    size = int(np.prod(shape, dtype=np.int64))
    return (data_type in _VALUE_TYPES and size <= VALUE_LIMIT) or (
        size == 1 and data_type != TensorProto.STRING
    )


def _static(proto: TypeProto) -> Shape | None:
    tensor = proto.tensor_type
    if not proto.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    dims = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    return None if any(d < 0 for d in dims) else tuple(dims)


def _infer_node(
    graph: Graph, node: Node, types: Mapping[str, TypeProto], values: Mapping[str, Array]
) -> dict[str, TypeProto]:
    """Types of the outputs, as far as they are known."""
    found = _by_schema(graph, node, types, values)
    rule = SHAPES.get(node.op)
    if rule is None or all(o in found and _static(found[o]) is not None for o in node.outputs if o):
        return found
    inputs = [_static(types[i]) if i in types else None for i in node.inputs]
    for name, shape in zip(node.outputs, rule.shapes(node.attrs, inputs), strict=False):
        like = found.get(name) or types.get(node.inputs[rule.like])
        if name and shape is not None and like is not None:
            found[name] = onnx.helper.make_tensor_type_proto(like.tensor_type.elem_type, shape)
    return found


def _by_schema(
    graph: Graph, node: Node, types: Mapping[str, TypeProto], values: Mapping[str, Array]
) -> dict[str, TypeProto]:
    domain, _, kind = BASES.get(node.op, node.op).rpartition(":")
    proto = graph.model.graph.node[node.index]
    try:
        schema = onnx.defs.get_schema(kind, graph.opset(domain), domain)
        if node.op in BASES:
            attrs = {k: v for k, v in node.attrs.items() if k in schema.attributes}
            proto = make_node(kind, node.inputs[: schema.max_input], node.outputs, node.name, **attrs)
        known = {i: numpy_helper.from_array(values[i], i) for i in node.inputs if i in values}
        present = {i: types[i] for i in node.inputs if i in types}
        elem = types[node.inputs[0]].tensor_type.elem_type if node.op in BASES else 0
        if node.op in BASES:
            present = {i: _as_float(t) for i, t in present.items()}
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            proto,
            present,
            known,
            opset_imports=list(graph.model.opset_import),
            ir_version=graph.model.ir_version,
        )
    except Exception:  # onnx raises many kinds; a shape that is not known is a barrier later on
        return {}
    for made in found.values() if elem else ():
        made.tensor_type.elem_type = elem
    return dict(found)


def _as_float(proto: TypeProto) -> TypeProto:
    """The same shape, for operators on quantised values that are otherwise like those on floats."""
    return onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, _static(proto))


def _is_tiny(graph: Graph, name: str) -> bool:
    return bool(np.prod(graph.shape_of_constant(name), dtype=np.int64) <= TINY)


_NEVER_EVALUATED = frozenset(
    {
        "Shape",
        "Size",
        "If",
        "Loop",
        "Scan",
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
    }
)


def evaluate(
    graph: Graph, node: Node, shapes: Mapping[str, Shape | None], values: Mapping[str, Array]
) -> list[Array] | None:
    """The outputs of a node of shape arithmetic, or `None` where they are not known."""
    if node.op in ("Shape", "Size"):
        shape = shapes.get(node.inputs[0])
        if shape is None:
            return None
        if node.op == "Size":
            return [np.asarray(np.prod(shape, dtype=np.int64))]
        return [np.asarray(shape[node.attrs.get("start", 0) : node.attrs.get("end", len(shape))], np.int64)]
    if ":" in node.op or node.op in _NEVER_EVALUATED or not node.outputs or node.captured:
        return None
    if not all(i in values for i in node.inputs if i):
        return None
    if node.op == "ConstantOfShape" and np.prod(values[node.inputs[0]], dtype=np.float64) > VALUE_LIMIT:
        return None
    if node.op == "Expand" and np.prod(values[node.inputs[1]], dtype=np.float64) > VALUE_LIMIT:
        return None
    proto = graph.model.graph.node[node.index]
    try:
        run = _evaluator(_anonymous(proto), graph.opset())
        names = [f"i{k}" for k, i in enumerate(node.inputs) if i]
        outputs = run.run(None, dict(zip(names, (values[i] for i in node.inputs if i), strict=True)))
    except Exception:  # the reference evaluator lacks some operators; then the value is not known
        return None
    return [np.asarray(o) for o in outputs]


def _anonymous(proto: NodeProto) -> bytes:
    n = NodeProto()
    n.CopyFrom(proto)
    n.name = n.doc_string = ""
    n.ClearField("metadata_props")
    for k, name in enumerate(proto.input):
        n.input[k] = f"i{k}" if name else ""
    for k, name in enumerate(proto.output):
        n.output[k] = f"o{k}" if name else ""
    return n.SerializeToString(deterministic=True)


@functools.lru_cache(maxsize=4096)
def _evaluator(data: bytes, opset: int) -> onnx.reference.ReferenceEvaluator:
    n = NodeProto()
    n.ParseFromString(data)
    inputs = [onnx.helper.make_value_info(i, TypeProto()) for i in n.input if i]
    outputs = [onnx.helper.make_value_info(o, TypeProto()) for o in n.output if o]
    graph = onnx.helper.make_graph([n], "node", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return onnx.reference.ReferenceEvaluator(model)
