"""The sizes that a model runs with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ..errors import InputError, RunFailed, UsageError
from ..graph import Array, Graph, infer, one_sample
from ..runtime import Feeds, TensorSpec, random_feeds

_LARGEST = 2**31 - 1


def sizes(graph: Graph, dims: Mapping[str, int] | None = None, batch: int | None = None) -> dict[str, int]:
    """The sizes of all symbolic dimensions when a graph is timed.

    Args:
        graph: the graph.
        dims: those that are given, by name; `input[axis]` where a dimension has none.
        batch: size of first axes without a fixed size; one sample by default.

    Returns:
        By name; for the rest a guess with which the shapes of the graph work out.
    """
    return dict(infer(graph, {**one_sample(graph, batch or 1), **(dims or {})}).dims)


def feeds_for(
    specs: Sequence[TensorSpec], dims: Mapping[str, int], seed: int = 0, sample: Feeds | None = None
) -> Feeds:
    """Inputs of these sizes (see `sizes`): random ones, or a sample where inputs of integers must agree.

    Args:
        specs: the inputs.
        dims: sizes of symbolic dimensions.
        seed: of random numbers.
        sample: a real one; it is repeated to fill a batch, and left alone where its sizes are others.
    """
    drawn = random_feeds(specs, np.random.default_rng(seed), dims)
    if sample is None or not integers(specs):
        return drawn
    found = {name: _repeated(sample[name], array.shape) for name, array in drawn.items() if name in sample}
    whole = {name: array for name, array in found.items() if array is not None}
    return whole if len(whole) == len(drawn) else drawn


def _repeated(array: Array, shape: tuple[int, ...]) -> Array | None:
    """An array of this shape, along its first axis the same again and again; `None` where others differ."""
    if array.shape == shape:
        return array
    if not shape or array.shape[1:] != shape[1:] or not array.shape[0] or shape[0] % array.shape[0]:
        return None
    return np.concatenate([array] * (shape[0] // array.shape[0]))


def integers(specs: Sequence[TensorSpec]) -> list[str]:
    """Names of inputs of integers: they may be indices, lengths or sizes, and have to agree."""
    return [spec.name for spec in specs if spec.dtype.kind in "iu"]


def check_dims(there: Collection[str], dims: Mapping[str, int]) -> None:
    """Refuse sizes of dimensions that aren't there.

    Raises:
        UsageError: a dimension was named that no model has.
    """
    for name, size in dims.items():
        if name not in there:
            hint = f"there are: {', '.join(sorted(there))}" if there else "all dimensions are fixed"
            raise UsageError(f"no input has a dimension '{name}'", where="--dim", hint=hint)
        if size > _LARGEST:
            raise UsageError(f"{size} is more than {_LARGEST:,}", where=f"--dim {name}")


def with_hint_of_sizes(
    error: InputError, guessed: Collection[str], drawn: Collection[str] = (), remedy: str = ""
) -> InputError:
    """An error, with what may be wrong if a node failed: sizes that nobody gave, or random integers.

    Args:
        error: what ONNX Runtime says.
        guessed: names of dimensions whose sizes were guessed.
        drawn: names of inputs of integers that were drawn at random.
        remedy: what to do about these.
    """
    if not (guessed or drawn) or error.hint or not isinstance(error, RunFailed):
        return error
    sized = f"give the sizes that it needs, with --dim NAME=SIZE for {', '.join(sorted(guessed))}"
    named = ", ".join(f"'{name}'" for name in drawn)
    fitted = f"random values of {named} may not fit" + (f": {remedy}" if remedy else "")
    hint = "; or ".join(text for text, holds in ((fitted, drawn), (sized, guessed)) if holds)
    told = RunFailed(error.reason, where=error.where, hint=hint)
    told.feeds = error.feeds
    return told
