"""Criteria: the importance of each unit; a class for each method of the literature.

In: a `Context` (a space of units, statistics, samples, a seed). Out: `Scores`, for each group a float64
array (group.size,): the unit of the lowest score goes first.

A criterion has a `name`, the statistics that it `needs`, and `scores(context)`; `base` has what many
share: scores by filter, by statistics, by what consumers read.

A new one is a file here and an entry in `_OWN`; the tests in `tests/test_criteria.py` then apply to it.
From outside of this package, any such object can be passed to `onnxprune.prune`, or be registered as an
entry point in the group `onnxprune.criteria`.
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
    """All names that `get` knows, those of entry points last.

    Example:
        >>> names()[:3]
        ('l1', 'l2', 'geometric-median')
    """
    return (*CRITERIA, *sorted(p.name for p in entry_points(group=ENTRY_POINTS) if p.name not in CRITERIA))


def get(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        UsageError: there is none, or its entry point does not give one.

    Example:
        >>> get("obs").needs
        frozenset({'consumers'})
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
