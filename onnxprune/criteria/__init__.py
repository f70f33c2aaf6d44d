"""What a unit is worth: one small class for each criterion of the literature, each in a file of its own.

A new criterion is one file and one line in `_OWN`. Users add theirs without touching this package: any
object like `Criterion` can be passed to `onnxprune.prune`, and the entry points in the group
`onnxprune.criteria` are known by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from ..errors import UsageError
from .activation import Activation
from .apoz import Apoz
from .base import Context, Criterion
from .bn_scale import BnScale
from .entropy import Entropy
from .fisher import Fisher
from .geometric_median import GeometricMedian
from .greedy import Greedy
from .hessian import Hessian
from .hessian_loss import HessianLoss
from .inbound_variance import InboundVariance
from .l1 import L1
from .l2 import L2
from .lasso import Lasso
from .obs import Obs
from .output_variance import OutputVariance
from .random import Random
from .taylor import Taylor
from .wanda import Wanda

__all__ = ["CRITERIA", "ENTRY_POINTS", "Context", "Criterion", "get", "names"]

ENTRY_POINTS = "onnxprune.criteria"

_OWN: tuple[Criterion, ...] = (
    L1(),
    L2(),
    GeometricMedian(),
    BnScale(),
    Random(),
    OutputVariance(),
    InboundVariance(),
    Entropy(),
    Apoz(),
    Activation(),
    Wanda(),
    Hessian(),
    Lasso(),
    Greedy(),
    Obs(),
    Taylor(),
    Fisher(),
    HessianLoss(),
)

CRITERIA: Mapping[str, Criterion] = MappingProxyType({c.name: c for c in _OWN})
"""Name -> criterion with its default options."""


def names() -> tuple[str, ...]:
    """All names that `get` knows, those of entry points last."""
    return (*CRITERIA, *sorted(p.name for p in entry_points(group=ENTRY_POINTS) if p.name not in CRITERIA))


def get(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        UsageError: there is none, or its entry point does not give one.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            found = point.load()
            criterion = found() if isinstance(found, type) else found
        except Exception as error:  # foreign code may raise anything
            raise UsageError(
                f"its entry point can't be loaded ({error})", where=f"--criterion {name}"
            ) from error
        if not isinstance(criterion, Criterion):
            reason = f"'{point.value}' has no name, needs and scores"
            raise UsageError(reason, where=f"--criterion {name}")
        return criterion
    raise UsageError(
        "there is no such criterion", where=f"--criterion {name}", hint=f"there are: {', '.join(names())}"
    )
