"""Files: read without trust, write whole or not at all."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.external_data_helper as external
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper

from ..errors import InputError
from .core import PROTOBUF_LIMIT, VALUE_TYPES, Array, Graph
from .form import require_names, settled
from .functions import inlined


def load(path: str | os.PathLike[str], *, weights: bool = True) -> Graph:
    """Read an ONNX file: its form is checked, its nodes are in order, its local functions inlined.

    Args:
        path: the file.
        weights: read external data as well; without it only the graph itself is read.

    Raises:
        InputError: there is no such file, it is not an ONNX model or has a wrong form, or its external data
            is missing or lies outside the model's folder.
    """
    file = Path(path)
    model = _parse(file)
    require_names(model, str(file))
    _load_external(model, file, weights)
    model = inlined(model, str(file))
    settled(model, str(file))
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
    tensor = TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return tensor.name, numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError, OSError) as error:
        raise InputError(f"is not a TensorProto ({error})", where=str(path)) from None


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
