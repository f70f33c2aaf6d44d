"""The proof: a cut against its masked reference, and a rewritten network against the one before."""

from __future__ import annotations

from collections.abc import Collection

from ..contracts.cut import without
from ..contracts.groups import Choice
from ..contracts.proof import Comparison, Proved
from ..contracts.reduction import Cut, Trace
from ..errors import InputError
from ..execution.sessions import open_session
from ..graph import Array, Graph, decided
from ..quality.loss import SQUASHED, compared_outputs, squashed
from ..runtime import ExecutionOptions, Feeds
from .compare import allowed, is_comparable, relative_error
from .parts import by_parts, in_parts

SAME = 1e-4
"""Relative difference of outputs up to which a rewritten network computes the same: what is fused differs."""


def prove(cut: Cut, feeds: Feeds) -> Proved:
    """Compare a cut with its masked reference, at the outputs and at every layer that lost something.

    Groups that a normalisation runs over are left whole for that: what stays of them is changed, too.

    Args:
        cut: the cut.
        feeds: real or random inputs.

    Raises:
        ProofFailed: they differ: a bug.

    Example:
        >>> import numpy as np
        >>> from onnxprune.graph import Network, load
        >>> from onnxprune.reductions.channels import Channels
        >>> network = Network(load("models/digits-plain.onnx"))
        >>> space = Channels().find(network)
        >>> first = space.groups[0]
        >>> choice = Choice({first.id: np.arange(first.size) % 2 == 0})  # every other channel goes
        >>> proof = prove(without(network, [space], choice), {"image": np.ones((1, 1, 28, 28), np.float32)})
        >>> proof.exact, proof.compared.error < 1e-5
        (True, True)
    """
    loose = [group for group in cut.groups if group.approximate]
    names = tuple(group.name for group in loose)
    exact = cut
    if loose:
        kept = {k: m for k, m in cut.choice.kept.items() if k not in {g.id for g in loose}}
        exact = without(cut.base, cut.spaces, Choice(kept))
    covered = frozenset(group.id for group in exact.groups)
    if not covered:
        return Proved(cut, Comparison(), covered, names)
    reference = exact.base
    for space in exact.spaces:
        if any(exact.choice.cuts(group) for group in space.groups):
            reference = space.mask(reference, exact.choice)
    compared = _compare(reference.graph, exact, feeds)
    return Proved(cut, compared, covered, names)


def _compare(reference: Graph, cut: Cut, feeds: Feeds) -> Comparison:
    """Compare whole graphs, optimised and as written; where that differs, part by part, and the outputs.

    Kernels for integers, which come of fusing, cut sums of pairs off at 16 bits on processors without VNNI:
    which values are a pair depends on the width. As written, there are no such kernels. Each branch of an If
    is taken once.
    """
    graph = cut.network.graph
    also = [
        n for n in (*compared_outputs(graph), *sorted(cut.trace.compared)) if _is_common(n, reference, graph)
    ]
    inner = set(also) - set(graph.outputs)
    ends = {name for name in graph.outputs if (behind := squashed(graph, name)) and {*behind} <= {*also}}
    pairs = list(zip(decided(reference.tapped(also)), decided(graph.tapped(also)), strict=True))
    for options in (ExecutionOptions(), ExecutionOptions(optimize=False)):
        runs = [[open_session(g, options).run(feeds) for g in pair] for pair in pairs]
        found = max(
            (_compared(expected, actual, inner, ends, cut.trace) for expected, actual in runs),
            key=lambda compared: compared.excess,
        )
        if found.equal:
            return found
    covered = in_parts(reference, cut.base, graph)
    for expected, actual in runs:
        others = {name: expected[name] for name in graph.outputs if name not in covered}
        found = _compared(others, actual, (), (), cut.trace)
        if not found.equal:
            return found
    return by_parts(reference, cut.base, graph, cut.trace, feeds)


def _is_common(name: str, a: Graph, b: Graph) -> bool:
    return name in a.producer and name in b.producer


def _compared(
    expected: dict[str, Array],
    actual: dict[str, Array],
    inner: Collection[str],
    ends: Collection[str],
    trace: Trace,
) -> Comparison:
    count, error, excess, where = 0, 0.0, 0.0, ""
    for name, value in expected.items():
        if not is_comparable(value):
            continue
        count += 1
        try:
            left = trace.part(name, value) if name in inner else value
        except IndexError:
            left = value
        found = relative_error(left, actual[name], SQUASHED if name in ends else 0.0)
        share = found / allowed(value.dtype)
        if share > excess:
            excess, where = share, f"'{name}'"
        if name not in inner:
            error = max(error, found)
    return Comparison(count, error, excess, where)


def same(before: Graph, after: Graph, feeds: Feeds) -> Comparison:
    """Compare a rewritten graph with the one before, at its outputs and what they are squashed from.

    Args:
        before: the graph.
        after: rewritten.
        feeds: real or random inputs.

    Raises:
        InputError: the graph before can't be run.
    """
    if before.inputs != after.inputs or before.outputs != after.outputs:
        return Comparison(0, float("inf"), float("inf"), "the list of inputs or outputs")
    also = [name for name in compared_outputs(before) if _is_common(name, before, after)]
    expected = open_session(before.tapped(also)).run(feeds)
    try:
        actual = open_session(after.tapped(also)).run(feeds)
    except InputError as refused:
        return Comparison(0, float("inf"), float("inf"), f"so much that it can't be run ({refused.reason})")
    count, worst, where = 0, 0.0, ""
    for name, value in expected.items():
        if not is_comparable(value):
            continue
        count += 1
        behind = squashed(before, name) if name in before.outputs else ()
        least = SQUASHED if behind and {*behind} <= {*also} else 0.0
        error = relative_error(value, actual[name], least)
        if error > worst:
            worst, where = error, f"'{name}'"
    return Comparison(count, worst, worst / SAME, where)
