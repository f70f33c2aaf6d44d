"""What a model costs on samples such as a task has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from onnxprune.contracts.timing import Timing
from onnxprune.contracts.verdict import Size
from onnxprune.graph import Graph, Network
from onnxprune.pipeline import opened, sample_sizes, size


def counted(graph: Graph, samples: Mapping[str, npt.NDArray[np.generic]]) -> Size:
    """Parameters, bytes, and the multiply-accumulates of one sample as large as the first of these is."""
    dims = sample_sizes(opened([samples], graph), graph)
    return size(Network(graph, dims), Timing(dims=dims))
