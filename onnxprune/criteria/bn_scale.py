"""`bn-scale`: how far BatchNormalization turns a channel up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..contracts.groups import Group, Scores
from ..contracts.stats import Need
from ..errors import UsageError
from ..ops.layers.storage import values
from ..types import Floats, Units
from .base import Context, combined
from .l2 import L2


@dataclass(frozen=True)
class BnScale:
    """|gamma| of the BatchNormalization that a channel passes; the mean, relative, where it passes several.

    A group that passes none, in a network where others do, is scored as by `l2`.

    Source: Liu et al. 2017, Learning Efficient Convolutional Networks through Network Slimming, section 3
    (where training pulls gamma to zero; without that it is a heuristic).

    Raises:
        UsageError: no group passes any; exporters fold BatchNormalization into the filters before it.
    """

    name: str = "bn-scale"
    needs: frozenset[Need] = frozenset()

    def scores(self, context: Context) -> Scores:
        """See `Criterion.scores`."""
        groups = context.groups
        parts = [list(_scales(context, group)) for group in groups]
        if groups and not any(parts):
            hint = "exporters fold it into the filters: use l1 or l2"
            raise UsageError(
                "the model has no BatchNormalization", where=f"--criterion {self.name}", hint=hint
            )
        instead = L2().scores(context)
        return tuple(
            combined(group, part) if part else other
            for group, part, other in zip(groups, parts, instead, strict=True)
        )


def _scales(context: Context, group: Group) -> Iterator[tuple[Units, Floats]]:
    for node in context.graph.nodes:
        if node.op != "BatchNormalization":
            continue
        found = context.channels.along(node.outputs[0], group)
        gamma = values(context.graph, node.inputs[1])
        if found is None or gamma is None:
            continue
        mine = found[1] >= 0
        units, index = np.unique(found[1][mine], return_inverse=True)
        yield units, np.bincount(index, np.abs(gamma[mine])) / np.bincount(index)
