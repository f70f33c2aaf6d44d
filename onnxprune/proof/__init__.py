"""The proof that what was done to a network is what was said.

In: a `Cut`, or two graphs of which one was rewritten from the other, and inputs. Out: `Proved`, which nothing
else makes, or a `Comparison`. A cut is compared with its masked reference, at the outputs and at every layer
that lost something; where rounding grows too much on the way, part by part.

What rounding explains is in `compare`, how parts are run is in `parts`. Nothing here knows an operator.
"""

from __future__ import annotations

from .whole import prove, same

__all__ = ["prove", "same"]
