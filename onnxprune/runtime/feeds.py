"""Random inputs for a model, for when there are no samples: to time it, or to compare two graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..errors import InputError
from .memory import require_room
from .session import Array, TensorSpec


def random_feeds(
    specs: Iterable[TensorSpec],
    rng: np.random.Generator,
    dims: Mapping[str, int] | None = None,
    default_dim: int = 16,
) -> dict[str, Array]:
    """Draw an array for each input.

    Floats are standard normal. Integers are 0 or 1, which are valid as masks, as token types and as indices
    into any table of two rows; but uint8 is taken for pixels and covers its range. Strings are letters.

    Args:
        specs: the inputs, as `Session.inputs` gives them.
        rng: the source of randomness; the same state gives the same arrays.
        dims: sizes by symbolic name; `input[axis]` for an axis without one.
        default_dim: the size of other axes without a fixed size, except for first axes: they get 1, one
            sample. A name keeps the size that it gets first.

    Returns:
        The arrays by input name, of the inputs' dtypes.

    Raises:
        InputError: an input isn't a tensor, or is too large for memory.
    """
    sizes = dict(dims or {})
    feeds = {}
    for spec in specs:
        shape = []
        for axis, dim in enumerate(spec.shape):
            default = 1 if axis == 0 else default_dim
            symbol = f"{spec.name}[{axis}]" if dim is None else dim
            shape.append(sizes.setdefault(symbol, default) if isinstance(symbol, str) else symbol)
        feeds[spec.name] = _draw(spec, shape, rng)
    return feeds


def _draw(spec: TensorSpec, shape: list[int], rng: np.random.Generator) -> Array:
    if not spec.is_tensor:
        where = f"input '{spec.name}'"
        raise InputError("can't draw random values of its type", where=where, hint="give samples")
    require_room(
        shape, max(spec.dtype, np.dtype(np.float64), key=lambda d: d.itemsize), f"input '{spec.name}'"
    )
    if spec.dtype == object:
        return random_strings(shape, rng)
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(spec.dtype)
    if spec.dtype.kind in "iu":
        return rng.integers(0, 256 if spec.dtype == np.uint8 else 2, shape, spec.dtype)
    return rng.standard_normal(shape).astype(spec.dtype)


def random_strings(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Single letters, as an array of Python strings."""
    return np.array(list("abcdefgh"), object)[rng.integers(0, 8, shape)]
