"""ONNX models as graphs of nodes: load, save, shapes, values, edits.

The only package that imports onnx and onnx_graphsurgeon. A `Graph` is never changed: `Graph.edited`
returns a new one, so that analysis can't mutate and every stage may keep what it was given.
"""

from __future__ import annotations

from .branches import with_known_branches
from .core import PROTOBUF_LIMIT, Array, Edits, Graph, Node, Shape, is_floating, nbytes, type_text
from .editing import make_node
from .facts import TINY, Facts, infer
from .files import external_files, load, read_tensor, require_finite, save, write_atomic
from .inputs import InputSpec, input_specs, one_sample, symbolic_dims
from .network import Network
from .parts import Appended, appended, between, cut, segment
from .prepared import prepares, readers_of
from .values import VALUE_LIMIT, evaluate, is_value

__all__ = [
    "PROTOBUF_LIMIT",
    "TINY",
    "VALUE_LIMIT",
    "Appended",
    "Array",
    "Edits",
    "Facts",
    "Graph",
    "InputSpec",
    "Network",
    "Node",
    "Shape",
    "appended",
    "between",
    "cut",
    "evaluate",
    "external_files",
    "infer",
    "input_specs",
    "is_floating",
    "is_value",
    "load",
    "make_node",
    "nbytes",
    "one_sample",
    "prepares",
    "read_tensor",
    "readers_of",
    "require_finite",
    "save",
    "segment",
    "symbolic_dims",
    "type_text",
    "with_known_branches",
    "write_atomic",
]
