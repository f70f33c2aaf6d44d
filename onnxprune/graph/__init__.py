"""ONNX models as graphs of nodes: load, save, shapes, values, edits.

The only package that imports onnx and onnx_graphsurgeon. A `Graph` is never changed: `Graph.edited`
returns a new one, so that analysis can't mutate and every stage may keep what it was given.
"""

from __future__ import annotations

from .bodies import Body, bodies_of, has_bodies, lifted, operators_within, turns
from .branches import with_known_branches
from .core import (
    PROTOBUF_LIMIT,
    Array,
    Edits,
    Graph,
    Node,
    Shape,
    dtype_of,
    is_floating,
    nbytes,
    nbytes_of,
    type_text,
)
from .editing import make_node
from .facts import Facts, infer
from .files import external_files, load, read_tensor, require_finite, save, write_atomic
from .flatten import choice, decided, flattened, holds_weights, is_flattened, sunk
from .inputs import InputSpec, input_specs, one_sample, symbolic_dims
from .network import Network
from .parts import Appended, appended, between, cut, segment
from .prepared import prepares, readers_of
from .propagation import TINY
from .values import VALUE_LIMIT, evaluate, filling, is_value

__all__ = [
    "PROTOBUF_LIMIT",
    "TINY",
    "VALUE_LIMIT",
    "Appended",
    "Array",
    "Body",
    "Edits",
    "Facts",
    "Graph",
    "InputSpec",
    "Network",
    "Node",
    "Shape",
    "appended",
    "between",
    "bodies_of",
    "choice",
    "cut",
    "decided",
    "dtype_of",
    "evaluate",
    "external_files",
    "filling",
    "flattened",
    "has_bodies",
    "holds_weights",
    "infer",
    "input_specs",
    "is_flattened",
    "is_floating",
    "is_value",
    "lifted",
    "load",
    "make_node",
    "nbytes",
    "nbytes_of",
    "one_sample",
    "operators_within",
    "prepares",
    "read_tensor",
    "readers_of",
    "require_finite",
    "save",
    "segment",
    "sunk",
    "symbolic_dims",
    "turns",
    "type_text",
    "with_known_branches",
    "write_atomic",
]
