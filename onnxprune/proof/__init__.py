"""The proof: a cut equals its masked reference, and a rewritten graph the one before.

In: a `Cut`, or two graphs, and inputs. Out: a `Proved`, which nothing else makes, or a `Comparison`. A
cut is compared at the outputs and at every layer that lost something; a difference beyond rounding raises
`ProofFailed`.

- `whole`: `prove` and `same`; `parts`: where a network amplifies rounding too much for its outputs to
  prove anything, parts of the cut run on values of the reference; `compare`: how much rounding explains,
  by dtype.

Nothing here knows an operator or a reduction: a new kind of unit is proved as soon as its space has
`mask` and `cut`.
"""

from __future__ import annotations

from .whole import prove, same

__all__ = ["prove", "same"]
