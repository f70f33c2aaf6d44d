"""Models in files: read without trust, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper

from ..errors import InputError
from .apart import LARGE, PROTOBUF_LIMIT, refer
from .core import VALUE_TYPES, Array, Graph
from .delivery import Delivery
from .encoding import encoded, without
from .external import LFS, DataPlaces, external_paths, is_external, tensors
from .external import external_files as named_files
from .form import require_names, settled
from .functions import inlined
from .reading import contents, reason_of, require_file
from .tensors import flaw, nbytes

_DATA = ".data"
_ALIGNED = 64  # bytes; where tensors begin in a file of weights


def load(path: str | os.PathLike[str], *, weights: bool = True) -> Graph:
    """Read an ONNX file: its form is checked, its nodes are in order, its local functions inlined.

    External data of more than 2 GB in all stays where it is: it is read where it is looked at.

    Args:
        path: the file.
        weights: read external data as well; without it only the graph itself is read.

    Raises:
        InputError: there is no such file, it is not an ONNX model or has a wrong form, or its external data
            is missing or lies outside the model's folder.

    Example:
        >>> graph = load("models/digits-plain.onnx")
        >>> graph.inputs, graph.outputs, graph.parameters()
        (('image',), ('logits',), 287722)
        >>> print(graph.nodes[0])
        Conv '/stage1/conv1/conv/Conv'
    """
    file = Path(path)
    model = _parse(file)
    require_names(model, str(file))
    model = inlined(model, str(file))
    settled(model, str(file))
    places = DataPlaces(file)
    outside = [tensor for tensor in tensors(model) if is_external(tensor)]
    total = sum(places.of(tensor).length for tensor in outside)
    listed = {tensor.name for tensor in model.graph.initializer}
    for tensor in outside if weights else ():
        if total <= PROTOBUF_LIMIT or tensor.name not in listed:
            tensor.CopyFrom(places.inside(tensor))
    return Graph(model, file)


def external_files(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Files that hold weights of a model, relative to its folder, whether they exist or not.

    Raises:
        InputError: there is no such file, or it is not an ONNX model.
    """
    file = Path(path)
    model = _parse(file)
    require_names(model, str(file))
    return named_files(file, model)


def files_of(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """A model and the files that hold its weights, whether these exist or not.

    Raises:
        InputError: there is no such model, or it is not an ONNX model.
    """
    file = Path(path)
    model = _parse(file)
    require_names(model, str(file))
    return (file, *external_paths(file, model))


def data_files(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files that hold weights of a model: they are there, and nowhere else than they may be.

    Raises:
        InputError: there is no such model, or one of the files is missing, too short, or somewhere else.
    """
    file = Path(path)
    model = _parse(file)
    require_names(model, str(file))
    places = DataPlaces(file)
    found = [places.of(tensor) for tensor in tensors(model) if is_external(tensor)]
    return tuple(sorted({place.file for place in found}))


def _parse(file: Path) -> ModelProto:
    where = str(file)
    size = require_file(file, hint="name an .onnx file")
    if not size:
        raise InputError("the file is empty", where=where)
    model = ModelProto()
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(LFS)] == LFS:
                raise InputError(
                    "is a git-lfs pointer, not the model", where=where, hint="run 'git lfs pull'"
                )
            with memoryview(data) as view:
                model.ParseFromString(view)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"can't be read ({reason_of(error)})", where=where) from None
    except DecodeError:
        if size > PROTOBUF_LIMIT:
            reason = "is larger than the 2 GB that protobuf can hold in one file"
            raise InputError(reason, where=where, hint="export it with external data") from None
        raise InputError("is not an ONNX model, or is truncated", where=where) from None
    if not model.HasField("graph") or not model.opset_import or not model.graph.output:
        raise InputError("is not an ONNX model: no graph, outputs or opset", where=where)
    return model


def require_finite(graph: Graph) -> None:
    """Refuse weights that are NaN or infinite: scores and repairs are undefined with them.

    Lone values and constants of few distinct values (attention masks hold -inf on purpose) pass.

    Raises:
        InputError: naming the first such constant.
    """
    for name, tensor in graph.constants.items():
        if tensor.data_type in VALUE_TYPES or np.prod(tensor.dims, dtype=np.int64) <= 1:
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


def read_tensor(path: Path) -> tuple[str, Array]:
    """Name and value of a TensorProto in a file, as ONNX's test data has them.

    Raises:
        InputError: the file holds something else.
    """
    tensor, where = TensorProto(), str(path)
    try:
        tensor.ParseFromString(contents(path))
    except DecodeError:
        raise InputError("is not a TensorProto", where=where) from None
    require_names(tensor, where)
    if is_external(tensor):
        raise InputError("its values are in another file", where=where, hint="save them in the tensor")
    if wrong := flaw(tensor):
        raise InputError(f"its tensor {wrong}", where=where)
    try:
        return tensor.name, numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise InputError(f"is not a TensorProto ({error})", where=where) from None


def save(graph: Graph, path: str | os.PathLike[str], delivery: Delivery | None = None) -> int:
    """Write the model; it appears whole or not at all. Returns the bytes written.

    Where one file would exceed protobuf's 2 GB, weights go into another beside it. That one is named by its
    contents: the model that was there before keeps its own until it has been replaced.

    Args:
        graph: the model.
        path: where it shall appear.
        delivery: other files that it shall appear with.

    Raises:
        InputError: the folder can't be written to.
    """
    file = Path(path)
    if delivery is None:
        with Delivery() as alone:
            return save(graph, path, alone)
    file = Path(os.path.realpath(file))
    delivery.after(lambda: _sweep_data(file))
    if graph.size() <= PROTOBUF_LIMIT:
        outside = {t.name: graph.raw(t.name).data for t in graph.model.graph.initializer if is_external(t)}
        with delivery.open(Path(path)) as staged:
            for piece in encoded(graph.model, outside) if outside else [graph.serialized()]:
                staged.file.write(piece)
            return staged.file.tell()
    model, weights = without(graph.model, lambda tensor: is_external(tensor) or nbytes(tensor) >= LARGE)
    headers = {tensor.name: tensor for tensor in model.graph.initializer}
    name = hashlib.sha256()
    with delivery.open(file.with_name(file.name + _DATA)) as data:
        for tensor in weights:
            values = graph.raw(tensor.name).data
            gap = bytes(-data.file.tell() % _ALIGNED)
            data.file.write(gap)
            name.update(gap)
            refer(headers[tensor.name], offset=data.file.tell())
            data.file.write(values)
            name.update(values)
        size = data.file.tell()
        data.target = file.with_name(f"{file.name}.{name.hexdigest()[:16]}{_DATA}")
    for tensor in weights:
        headers[tensor.name].external_data[0].value = data.target.name
    return size + delivery.write(file, model.SerializeToString(deterministic=True))


def _sweep_data(model: Path) -> None:
    """Remove weights that models of this name had before, unless a file in the folder still names them."""
    ours = re.compile(rf"{re.escape(model.name)}\.[0-9a-f]{{16}}{re.escape(_DATA)}")
    with contextlib.suppress(OSError):
        files = [Path(e.path) for e in os.scandir(model.parent) if e.is_file(follow_symlinks=False)]
        old = {f.name for f in files if ours.fullmatch(f.name)}
        for other in files:
            if other.name not in old and old:
                old = {name for name in old if not _names(other, name)}
        for name in old:
            model.with_name(name).unlink()


def _names(file: Path, name: str) -> bool:
    """Whether a file holds a name somewhere, as a model does that has its weights there."""
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(name.encode()) >= 0
