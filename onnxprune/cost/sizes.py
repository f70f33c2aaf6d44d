"""The sizes that a model runs with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ..errors import InputError, RunFailed, UsageError
from ..graph import Graph, infer, one_sample
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


def feeds_for(specs: Sequence[TensorSpec], dims: Mapping[str, int], seed: int = 0) -> Feeds:
    """Random inputs of these sizes; see `sizes`."""
    return random_feeds(specs, np.random.default_rng(seed), dims)


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


def with_hint_of_sizes(error: InputError, guessed: Collection[str]) -> InputError:
    """An error, with what may be wrong if a node failed: sizes that were guessed."""
    if not guessed or error.hint or not isinstance(error, RunFailed):
        return error
    hint = f"give the sizes that it needs, with --dim NAME=SIZE for {', '.join(sorted(guessed))}"
    return RunFailed(error.reason, where=error.where, hint=hint)
