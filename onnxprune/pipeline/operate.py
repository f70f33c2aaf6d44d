"""Surgery, and the proof that it is exact."""

from __future__ import annotations

from ..errors import CheckFailed
from ..fidelity import squashed, telling
from ..graph import Graph, decided
from ..rewrite import remaining, rewrite
from ..runtime import ExecutionOptions
from ..sessions import open_session
from ..types import Mask
from ..validate import masked, surgery_error
from .evidence import Feeds
from .prepare import Prepared
from .stepwise import stepwise_error


def operate(ready: Prepared, kept: Mask, feeds: Feeds) -> tuple[Graph, float]:
    """Remove units, and prove it, as far as it is exact: not for what a normalisation runs over.

    Args:
        ready: the model.
        kept: (analysis.count,), whether each unit stays.
        feeds: real or random inputs to prove it on.

    Returns:
        The pruned graph, and the largest relative error against the masked original.

    Raises:
        CheckFailed: the surgery is not exact: a bug.
    """
    pruned = rewrite(ready.graph, ready.facts, ready.analysis, kept)
    exactly = kept.copy()
    for group in ready.analysis.groups:
        exactly[group.units] |= group.approximate
    if exactly.all():
        return pruned, 0.0
    proved = pruned
    if (exactly != kept).any():
        proved = rewrite(ready.graph, ready.facts, ready.analysis, exactly)
    reference = masked(ready.graph, ready.facts, ready.analysis, exactly)
    also = [name for name in telling(proved) if name in reference.producer and name in proved.producer]
    ends = {name for name in proved.outputs if (behind := squashed(proved, name)) and {*behind} <= {*also}}
    whole, part = reference.tapped(also), proved.tapped(also)
    # Kernels for integers, which come of fusing, cut sums of pairs off at 16 bits on processors without VNNI:
    # which values are a pair depends on the width. As written, there are no such kernels.
    for options in (ExecutionOptions(), ExecutionOptions(optimize=False)):
        found = [
            surgery_error(open_session(a, options), open_session(b, options), feeds, ends)
            for a, b in zip(decided(whole), decided(part), strict=True)
        ]
        error = max(error for error, _ in found)
        if all(exact for _, exact in found):
            break
    else:
        labels = remaining(ready.graph, ready.facts, ready.analysis, exactly)
        error, fault = stepwise_error(reference, proved, ready.facts, labels, feeds)
        if fault is not None:
            raise CheckFailed(
                f"the surgery is not exact: {fault} differs by {error:.2g} from the masked original",
                where=ready.original.where,
                hint="this is a bug of onnxprune, please report it; nothing was written",
            )
    return pruned, error
