"""ONNX models as graphs of nodes: files, shapes, values, edits. The only subpackage that imports onnx.

In: a file. Out: a `Graph`, which is never changed (`Graph.edited` returns a new one), and a `Network`: a
graph at given sizes of its inputs, with everything derived from it computed once (`Network.facts`,
`Network.cached`).

- reading: `files`, `form` (what is not a graph of operators is refused here), `external` and `apart`
  (weights outside of the protobuf), `npz`, `reading`; writing: `delivery` (whole or not at all);
- `core` (`Graph`, `Node`, `Edits`), `editing`, `parts` (pieces of a graph as models);
- shapes and values: `facts`, `propagation`, `sizes`, `demands`, `shapes` (for what onnx can't infer),
  `values`;
- control flow: `bodies` (If, Loop, Scan as graphs), `flatten` and `branches` (branches of an If);
- a shape rule for an operator that onnx can't infer: an entry in `shapes`.
"""

from __future__ import annotations

from .apart import PROTOBUF_LIMIT, apart
from .bodies import Body, bodies_of, body_graphs, has_bodies, iterations, operators_within
from .branches import with_known_branches
from .core import Array, Edits, Graph, Node, Shape, dtype_numbered, dtype_of, is_floating, nbytes, type_text
from .delivery import Delivery, alone, write_atomic
from .editing import make_node
from .facts import Facts, infer
from .files import data_files, external_files, files_of, load, read_tensor, require_finite, save
from .flatten import choice, decided, flattened, holds_weights, is_flattened, unflattened
from .inputs import InputSpec, input_specs, one_sample, rows_of_a_sample, symbolic_dims
from .network import Network
from .npz import Npz, mapped
from .parts import Appended, appended, cut, of_constants, segment
from .prepared import prepares, readers_of
from .propagation import TINY
from .reading import contents, parsed, reason_of, require_file, text
from .targets import Overwrites, require_apart
from .tensors import nbytes as nbytes_of
from .values import VALUE_LIMIT, evaluate, filling, is_value

__all__ = [
    "PROTOBUF_LIMIT",
    "TINY",
    "VALUE_LIMIT",
    "Appended",
    "Array",
    "Body",
    "Delivery",
    "Edits",
    "Facts",
    "Graph",
    "InputSpec",
    "Network",
    "Node",
    "Npz",
    "Overwrites",
    "Shape",
    "alone",
    "apart",
    "appended",
    "bodies_of",
    "body_graphs",
    "choice",
    "contents",
    "cut",
    "data_files",
    "decided",
    "dtype_numbered",
    "dtype_of",
    "evaluate",
    "external_files",
    "files_of",
    "filling",
    "flattened",
    "has_bodies",
    "holds_weights",
    "infer",
    "input_specs",
    "is_flattened",
    "is_floating",
    "is_value",
    "iterations",
    "load",
    "make_node",
    "mapped",
    "nbytes",
    "nbytes_of",
    "of_constants",
    "one_sample",
    "operators_within",
    "parsed",
    "prepares",
    "read_tensor",
    "readers_of",
    "reason_of",
    "require_apart",
    "require_file",
    "require_finite",
    "rows_of_a_sample",
    "save",
    "segment",
    "symbolic_dims",
    "text",
    "type_text",
    "unflattened",
    "with_known_branches",
    "write_atomic",
]
