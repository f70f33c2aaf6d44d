"""Whether tensors of a file hold what their shapes and types say, without decoding their values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

import onnx
from onnx import TensorProto

KNOWN_TYPES = frozenset(onnx.helper.get_all_tensor_dtypes()) - {TensorProto.UNDEFINED}
"""Types of elements that can be read."""

_NAMES = {value: name for name, value in TensorProto.DataType.items()}
_COMPLEX = frozenset({TensorProto.COMPLEX64, TensorProto.COMPLEX128})
_FIELDS: Mapping[int, str] = MappingProxyType(
    {
        TensorProto.FLOAT: "float_data",
        TensorProto.COMPLEX64: "float_data",
        TensorProto.INT64: "int64_data",
        TensorProto.DOUBLE: "double_data",
        TensorProto.COMPLEX128: "double_data",
        TensorProto.UINT32: "uint64_data",
        TensorProto.UINT64: "uint64_data",
        TensorProto.STRING: "string_data",
    }
)
"""Where values are that aren't raw; those of other types are in `int32_data`."""

LIMIT = 2**62
"""Bytes; no tensor is larger, whatever its shape says."""


def flaw(tensor: TensorProto) -> str | None:
    """What is wrong with a tensor's type, shape, or the amount of its values; `None` if nothing is."""
    if tensor.data_type not in KNOWN_TYPES:
        return f"has an unknown type of elements ({tensor.data_type})"
    dims = tuple(tensor.dims)
    if any(d < 0 for d in dims) or math.prod(dims) * 16 > LIMIT:
        return f"has an impossible shape ({', '.join(map(str, dims))})"
    if tensor.data_location == TensorProto.EXTERNAL:
        return None
    if tensor.HasField("raw_data"):
        have, need, what = len(tensor.raw_data), nbytes(tensor), "bytes"
        if tensor.data_type == TensorProto.STRING:
            return "holds strings as raw data"
    else:
        have, need, what = len(getattr(tensor, _field(tensor))), _entries(tensor), "values"
    if have == need:
        return None
    name = _NAMES[tensor.data_type].lower()
    return f"holds {have} {what}, and {name} of shape ({', '.join(map(str, dims))}) has {need}"


def nbytes(tensor: TensorProto) -> int:
    """The bytes of a tensor's values as raw or external data; types of fewer than eight bits are packed."""
    return -(-math.prod(tensor.dims) * bits(tensor.data_type) // 8)


def bits(data_type: int) -> int:
    """Bits of an element; strings have those of a pointer."""
    packed = re.fullmatch(r"U?(?:INT|FLOAT)([24])(?:E.*)?", _NAMES[data_type])
    return int(packed[1]) if packed else 8 * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize


def _field(tensor: TensorProto) -> str:
    return _FIELDS.get(tensor.data_type, "int32_data")


def _entries(tensor: TensorProto) -> int:
    """How many entries the field of values has."""
    count = math.prod(tensor.dims)
    if tensor.data_type in _COMPLEX:
        return 2 * count
    return nbytes(tensor) if bits(tensor.data_type) < 8 else count
