"""The proof part by part, for networks that amplify rounding too much for a comparison of outputs.

Outputs of such networks prove nothing: with random weights, that of an
efficientnet_v2_s differs by a third of its size between two runs whose inputs differ by a millionth. Then
parts of the cut graph run on what the masked reference gives before them, and must give what it gives behind
them. If every part does, so does the whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ..contracts.proof import Comparison
from ..contracts.reduction import Trace
from ..execution.prefix import reads
from ..execution.sessions import open_session
from ..graph import Array, Graph, Network, Node, choice, segment
from ..runtime import ExecutionOptions, Feeds
from .compare import allowed, relative_error

_AS_WRITTEN = ExecutionOptions(optimize=False)


@dataclass(frozen=True)
class _Part:
    """Consecutive nodes of the cut graph, with the shape arithmetic that they read.

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


def by_parts(reference: Graph, base: Network, cut: Graph, trace: Trace, feeds: Feeds) -> Comparison:
    """Compare parts of a cut graph with those of the masked reference, on the same inputs.

    Parts are halved as long as rounding does not explain what they give.

    Args:
        reference: the masked reference.
        base: the network that was cut.
        cut: the cut graph, before any repair.
        trace: how tensors of both correspond.
        feeds: real or random inputs.

    Returns:
        A comparison; where it is not equal, of the node that alone gives something else.
    """
    comparable = in_parts(reference, base, cut)
    worst, excess, count = 0.0, 0.0, 0
    spans = [(0, len(cut.nodes))]
    while spans:
        parts = [_part(cut, comparable, *span) for span in spans]
        taps = dict.fromkeys(name for part in parts for name in (*part.given, *part.made))
        names = [name for name in taps if name in reference.producer]
        values = {**feeds, **open_session(reference.tapped(names), _AS_WRITTEN).run(feeds, names)}
        spans = []
        for part in parts:
            error, share = _error(cut, part, values, trace)
            if share <= 1:
                worst, excess, count = max(worst, error), max(excess, share), count + len(part.made)
            elif part.end - part.first == 1:
                return Comparison(count, error, share, str(cut.nodes[part.first]))
            else:
                middle = (part.first + part.end) // 2
                spans += [(part.first, middle), (middle, part.end)]
    return Comparison(count, worst, excess)


def in_parts(reference: Graph, base: Network, cut: Graph) -> frozenset[str]:
    """The tensors that parts can compare: what nodes of both graphs make, other than shape arithmetic."""
    facts = base.facts
    common = reference.producer.keys() & cut.producer.keys()
    return frozenset(name for name in common if name not in facts.values and name in facts.dtypes)


def _part(graph: Graph, comparable: Collection[str], first: int, end: int) -> _Part:
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


def _error(graph: Graph, part: _Part, values: Mapping[str, Array], trace: Trace) -> tuple[float, float]:
    """The largest relative error of a part, and the largest share of what rounding explains."""
    if not part.made:
        return 0.0, 0.0
    try:
        feeds = {name: trace.part(name, values[name]) for name in part.given}
        expected = {name: trace.part(name, values[name]) for name in part.made}
    except IndexError:  # an axis is not as long as was thought
        return float("inf"), float("inf")
    model = segment(graph, part.nodes, {name: value.dtype for name, value in feeds.items()}, part.made)
    found = open_session(model, _AS_WRITTEN).run(feeds)
    errors = {name: relative_error(expected[name], found[name]) for name in part.made}
    shares = [error / allowed(found[name].dtype) for name, error in errors.items()]
    return max(errors.values()), max(shares)
