"""ONNX models as graphs of nodes: load, save, shapes, values, edits.

The only package that imports onnx. A `Graph` is never changed: `Graph.edited`
returns a new one, so that analysis can't mutate and every stage may keep what it was given.
"""

from __future__ import annotations

from .apart import PROTOBUF_LIMIT, apart
from .branches import with_known_branches
from .core import Array, Edits, Graph, Node, Shape, is_floating, nbytes, type_text
from .delivery import Delivery, alone, write_atomic
from .editing import make_node
from .facts import TINY, Facts, infer
from .files import data_files, external_files, load, read_tensor, require_finite, save
from .inputs import InputSpec, input_specs, one_sample, symbolic_dims
from .network import Network
from .npz import Npz, mapped
from .parts import Appended, appended, cut, of_constants, segment
from .prepared import prepares, readers_of
from .reading import contents, parsed, reason_of, require_file, text
from .values import VALUE_LIMIT, evaluate, is_value

__all__ = [
    "PROTOBUF_LIMIT",
    "TINY",
    "VALUE_LIMIT",
    "Appended",
    "Array",
    "Delivery",
    "Edits",
    "Facts",
    "Graph",
    "InputSpec",
    "Network",
    "Node",
    "Npz",
    "Shape",
    "alone",
    "apart",
    "appended",
    "contents",
    "cut",
    "data_files",
    "evaluate",
    "external_files",
    "infer",
    "input_specs",
    "is_floating",
    "is_value",
    "load",
    "make_node",
    "mapped",
    "nbytes",
    "of_constants",
    "one_sample",
    "parsed",
    "prepares",
    "read_tensor",
    "readers_of",
    "reason_of",
    "require_file",
    "require_finite",
    "save",
    "segment",
    "symbolic_dims",
    "text",
    "type_text",
    "with_known_branches",
    "write_atomic",
]
