"""One pass of samples through the graph, and what is kept of it: sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ..contracts.reduction import Key
from ..contracts.request import Request
from ..contracts.stats import Stats
from ..errors import InputError
from ..execution.sessions import open_session
from ..graph import Array, Graph
from ..runtime import ExecutionOptions
from ..samples.core import Batches, batch_size
from .meter import Meter


def measure(
    graph: Graph,
    wanted: Mapping[Key, Request],
    batches: Iterable[Mapping[str, Array]],
    *,
    seed: int = 0,
    source: str = "",
    options: ExecutionOptions | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Stats:
    """Run batches of samples through the graph once and add up what criteria need.

    Everything comes from this one pass: also the entropy's histogram, as pooled values are kept for each
    sample (four bytes per channel and sample: the only part that grows with the samples).

    Args:
        graph: the graph.
        wanted: what to gather, from `requests`.
        batches: inputs by name, first axis samples.
        seed: of the positions to look at.
        source: where the samples came from, in words.
        options: how to run.
        progress: called with how many samples are done.

    Raises:
        InputError: there is no sample, or one does not fit the model.

    Example:
        >>> import numpy as np
        >>> from onnxprune.contracts.request import Request
        >>> from onnxprune.graph import load
        >>> graph = load("models/digits-plain.onnx")
        >>> request = Request("image", 1, (1, 1, 28, 28), frozenset({"sum", "squares"}))
        >>> batches = [{"image": np.full((4, 1, 28, 28), 0.5, np.float32)}] * 2
        >>> stats = measure(graph, {("image", 1): request}, batches)
        >>> stats.samples, float(stats.of(("image", 1)).mean[0])
        (8, 0.5)
    """
    meter = Meter(graph, tuple(wanted.values()), seed)
    session = open_session(meter.graph, options) if wanted else None
    count, alone = 0, isinstance(batches, Batches) and batches.samples.division.complete
    for feeds in batches:
        if session is not None:
            try:
                meter.add(session.run(meter.feeds(feeds)))
            except InputError as error:
                raise _blamed(error, feeds, source) from None
        count += 1 if alone else batch_size(feeds)
        progress(count)
    if count == 0:
        raise InputError("there are no samples", where=source or None)
    moments = dict(zip(wanted, meter.moments, strict=True))
    for (tensor, _), found in moments.items():
        if found.gram is not None and not np.isfinite(found.gram).all():
            reason = f"what '{tensor}' holds is too large to be squared and added up"
            raise InputError(reason, where=source or None, hint="scale the samples as the model expects them")
    return Stats(graph.digest(), count, source, moments)


def _blamed(error: InputError, feeds: Mapping[str, Array], source: str) -> InputError:
    """The error, attributed to an input if it began there."""
    for name, array in feeds.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            reason = f"a sample of input '{name}' holds NaN or infinity"
            return InputError(reason, where=source or None, hint="leave such samples out")
    return error
