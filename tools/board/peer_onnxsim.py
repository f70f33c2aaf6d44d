"""Prune with onnxsim 0.8.1 down to shares of the MACs; runs in its own environment.

    python -m board.peer_onnxsim MODEL CALIB.npz OUT SHARE...

Its channel pruning takes a sparsity, so the sparsity is searched. BatchNormalization is folded first by its
own simplifier, as its documentation asks. Every way to call it gives a candidate: uncalibrated or calibrated,
the same share of every layer or one threshold for all.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnxsim
from onnxsim.pruning import apply_structured_pruning, apply_structured_wanda_pruning

from board.counted import counted
from board.least import least
from onnxprune.graph import Graph

Prune = Callable[[float], onnx.ModelProto]
_BATCH = 32


def main(model: str, calib: str, out: str, shares: list[float]) -> None:
    """Write `OUT/<way>-<share>.onnx` for each way and share, and print one JSON line for each."""
    plain, _ = onnxsim.simplify(onnx.load(model))
    with np.load(calib) as data:
        arrays = dict(data)

    def macs(proto: onnx.ModelProto) -> int:
        return counted(Graph(proto), arrays).macs

    def cost(prune: Prune, sparsity: float) -> int:
        return macs(prune(sparsity))

    whole = macs(plain)
    count = len(next(iter(arrays.values())))
    batches = [{k: v[i : i + _BATCH] for k, v in arrays.items()} for i in range(0, count, _BATCH)]
    for way, call in _ways(plain, batches):
        started = time.perf_counter()
        prune = cache(call)
        for share in shares:
            path = Path(out) / f"{way.replace(' ', '-')}-{share:g}.onnx"
            try:
                sparsity = least(partial(cost, prune), share * whole, 128)
                onnx.save(prune(sparsity), path)
            except Exception as error:  # whatever a peer raises is its result
                row = {"way": way, "error": f"{type(error).__name__}: {error}"}
            else:
                row = {"way": f"{way}, {sparsity:.3f}", "file": str(path)}
            seconds = time.perf_counter() - started
            print(json.dumps({**row, "share": share, "seconds": seconds}), flush=True)
            started = time.perf_counter()


def _ways(plain: onnx.ModelProto, batches: list[dict[str, np.ndarray]]) -> Iterator[tuple[str, Prune]]:
    for spread in ("layer", "global"):
        everywhere = spread == "global"
        yield f"magnitude {spread}", partial(_magnitude, plain, everywhere)
        yield f"calibrated {spread}", partial(_calibrated, plain, batches, everywhere)


def _magnitude(plain: onnx.ModelProto, everywhere: bool, sparsity: float) -> onnx.ModelProto:
    found: onnx.ModelProto = apply_structured_pruning(
        _copy(plain), sparsity=sparsity, global_sparsity=everywhere
    )
    return found


def _calibrated(
    plain: onnx.ModelProto, batches: list[dict[str, np.ndarray]], everywhere: bool, sparsity: float
) -> onnx.ModelProto:
    found: onnx.ModelProto = apply_structured_wanda_pruning(
        _copy(plain), calibration_data=batches, sparsity=sparsity, global_sparsity=everywhere
    )
    return found


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], [float(share) for share in sys.argv[4:]])
