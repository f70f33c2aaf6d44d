"""Surgery, and the proof that it is exact."""

from __future__ import annotations

from ..errors import ProofFailed
from ..execution.sessions import open_session
from ..graph import Graph
from ..proof.compare import surgery_error
from ..quality.loss import squashed, telling
from ..reductions.channels.cut import rewrite
from ..reductions.channels.mask import masked
from ..runtime import ExecutionOptions
from ..types import Mask
from .evidence import Feeds
from .prepare import Prepared


def operate(ready: Prepared, kept: Mask, feeds: Feeds) -> tuple[Graph, float]:
    """Remove units, and prove it, as far as it is exact: not for what a normalisation runs over.

    Args:
        ready: the model.
        kept: (analysis.count,), whether each unit stays.
        feeds: real or random inputs to prove it on.

    Returns:
        The pruned graph, and the largest relative error against the masked original.

    Raises:
        ProofFailed: the surgery is not exact: a bug.
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
        expected, actual = open_session(whole, options), open_session(part, options)
        error, exact = surgery_error(expected, actual, feeds, ends)
        if exact:
            break
    else:
        raise ProofFailed(
            f"the surgery is not exact: outputs differ by {error:.2g} from the masked original",
            where=ready.original.where,
            hint="this is a bug of onnxprune, please report it; nothing was written",
        )
    return pruned, error
