"""Local functions: what a model defines once and calls like an operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import onnx
import onnx.inliner
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto

from ..errors import InputError

LIMIT = 30_000
"""Nodes; functions that call others twice each double with each level."""

DEEPEST = 200
"""Levels of functions that call functions."""

_Key: TypeAlias = tuple[str, str, str]
_STANDARD = frozenset({"", "ai.onnx"})


def inlined(model: ModelProto, where: str) -> ModelProto:
    """The model with its functions' nodes in the place of their calls.

    Args:
        model: the model; it may be changed.
        where: its file, for messages.

    Raises:
        InputError: a function calls itself, the calls would become too many nodes, or onnx can't inline them.
    """
    if not model.functions:
        return model
    functions = {_key(f.domain, f.name, f.overload): f for f in model.functions}
    sizes = _sizes(functions, where)
    total = sum(sizes.get(_called(n), 1) for n in _nodes(model.graph.node))
    if total > LIMIT:
        reason = f"its local functions expand to more than {LIMIT:,} nodes"
        raise InputError(reason, where=where, hint="export it without functions that call one another")
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # onnx raises whatever C++ threw
        reason = f"its local functions can't be inlined ({error})"
        raise InputError(reason, where=where) from None


def _sizes(functions: Mapping[_Key, FunctionProto], where: str) -> dict[_Key, int]:
    """Nodes of each function with those that it calls; no more than one over the limit."""
    sizes: dict[_Key, int] = {}
    for start in functions:
        path: list[_Key] = [start]  # not by recursion: a file may nest them deeper than Python does
        while path:
            key = path[-1]
            calls = [c for c in map(_called, _nodes(functions[key].node)) if c in functions]
            if (missing := next((c for c in calls if c not in sizes), None)) is None:
                own = sum(1 for _ in _nodes(functions[key].node)) - len(calls)
                sizes[key] = min(own + sum(sizes[c] for c in calls), LIMIT + 1)
                path.pop()
            elif missing in path:
                raise InputError("calls itself", where=f"{where}: local function '{_shown(missing)}'")
            elif len(path) == DEEPEST:
                raise InputError(f"has local functions in more than {DEEPEST} levels", where=where)
            else:
                path.append(missing)
    return sizes


def _nodes(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Nodes, with those of bodies."""
    for n in nodes:
        yield n
        for a in n.attribute:
            for body in [a.g] if a.type == AttributeProto.GRAPH else a.graphs:
                yield from _nodes(body.node)


def _called(n: NodeProto) -> _Key:
    return _key(n.domain, n.op_type, n.overload)


def _key(domain: str, name: str, overload: str) -> _Key:
    return "" if domain in _STANDARD else domain, name, overload


def _shown(key: _Key) -> str:
    return ":".join(filter(None, key))
