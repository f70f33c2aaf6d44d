"""The proof that surgery is exact, step by step, where outputs can't tell.

Some networks make so much of rounding that their outputs say nothing: with random weights, that of an
efficientnet_v2_s differs by a third of its size between two runs whose inputs differ by a millionth. Then
parts of the pruned graph run on what the masked original gives before them, and must give what it gives
behind them. If every part does, so does the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..graph import Array, Facts, Graph, Node, choice, segment
from ..ops.label import Label
from ..prefix import reads
from ..rewrite import taken
from ..runtime import ExecutionOptions
from ..sessions import open_session
from ..validate import EXACT, EXACT_DEFAULT, relative_error
from .evidence import Feeds

_AS_WRITTEN = ExecutionOptions(optimize=False)


@dataclass(frozen=True)
class _Part:
    """Consecutive nodes of the pruned graph, with the shape arithmetic that they read.

    Attributes:
        first: position of the first node.
        end: position behind the last one.
        nodes: these, and what computes numbers for them.
        given: tensors that it reads.
        made: tensors that others read.
    """

    first: int
    end: int
    nodes: tuple[Node, ...]
    given: tuple[str, ...]
    made: tuple[str, ...]


def stepwise_error(
    reference: Graph, pruned: Graph, facts: Facts, labels: Mapping[str, Label], feeds: Feeds
) -> tuple[float, Node | None]:
    """How far parts of the pruned graph are from those of the masked original, on the same inputs.

    Parts are halved as long as rounding does not explain what they give.

    Args:
        reference: the masked original.
        pruned: the pruned graph, before any repair.
        facts: shapes and values of the original.
        labels: what stays of every tensor.
        feeds: real or random inputs.

    Returns:
        The largest relative error of any part, and the node that alone gives something else, if one does.
    """
    comparable = {
        name
        for name in reference.producer.keys() & pruned.producer.keys()
        if name not in facts.values and name in facts.dtypes
    }
    worst = 0.0
    spans = [(0, len(pruned.nodes))]
    while spans:
        parts = [_part(pruned, comparable, *span) for span in spans]
        taps = dict.fromkeys(name for part in parts for name in (*part.given, *part.made))
        names = [name for name in taps if name in reference.producer]
        values = {**feeds, **open_session(reference.tapped(names), _AS_WRITTEN).run(feeds, names)}
        spans = []
        for part in parts:
            error, exact = _error(pruned, part, values, labels)
            if exact:
                worst = max(worst, error)
            elif part.end - part.first == 1:
                return error, pruned.nodes[part.first]
            else:
                middle = (part.first + part.end) // 2
                spans += [(part.first, middle), (middle, part.end)]
    return worst, None


def _part(graph: Graph, comparable: set[str], first: int, end: int) -> _Part:
    own = [node for node in graph.nodes[first:end] if node.op != "Constant"]
    chosen = {node.index: node for node in own}
    given: dict[str, None] = {}
    wanted: list[Node] = list(own)
    while wanted:
        for name in reads(wanted.pop()):
            maker = graph.producer.get(name)
            if not name or name in graph.constants or (maker is not None and maker.index in chosen):
                continue
            if maker is None or name in comparable:
                given[name] = None
            else:
                chosen[maker.index] = maker
                wanted.append(maker)
    inside = {node.index for node in own}
    made = [o for node in own for o in node.outputs if o in comparable and _is_read(graph, o, inside)]
    return _Part(first, end, tuple(chosen[k] for k in sorted(chosen)), tuple(given), tuple(made))


def _is_read(graph: Graph, name: str, inside: Iterable[int]) -> bool:
    """Whether others read a tensor, or an If chooses it, which may choose another one."""
    readers = [node for node, _ in graph.readers.get(name, ())]
    return name in graph.outputs or any(n.index not in inside or choice(n) is not None for n in readers)


def _error(
    graph: Graph, part: _Part, values: Mapping[str, Array], labels: Mapping[str, Label]
) -> tuple[float, bool]:
    if not part.made:
        return 0.0, True
    given = {name: _rest(values[name], labels.get(name, ())) for name in part.given}
    if any(value is None for value in given.values()):
        return float("inf"), False
    feeds = {name: value for name, value in given.items() if value is not None}
    model = segment(graph, part.nodes, {name: value.dtype for name, value in feeds.items()}, part.made)
    found = open_session(model, _AS_WRITTEN).run(feeds)
    errors = [(_compared(values[name], labels.get(name, ()), found[name]), name) for name in part.made]
    worst = max(error for error, _ in errors)
    exact = all(error <= EXACT.get(found[name].dtype.name, EXACT_DEFAULT) for error, name in errors)
    return worst, exact


def _compared(value: Array, label: Label, found: Array) -> float:
    expected = _rest(value, label)
    return float("inf") if expected is None else relative_error(expected, found)


def _rest(value: Array, label: Label) -> Array | None:
    """What stays of a tensor; `None` if its axes are not as long as was thought."""
    if any(_lengths(value, block.axes) != block.old.shape for block in label):
        return None
    return taken(value, value.shape, label) if label else value


def _lengths(value: Array, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(value.shape[axis] for axis in axes)
