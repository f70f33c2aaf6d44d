"""Prune a network of `models/` with Torch-Pruning 1.6.1; runs in its own environment.

    python -m board.peer_torch MODEL-bn.onnx RECIPE OUT SHARE...

The PyTorch twin is built by `tools/train_models.py` and gets the weights of the ONNX file. Five criteria that
need neither labels nor gradients, each with the same share of every layer or one threshold for all, give ten
candidates for each share.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import onnx
import torch
import torch_pruning as tp
from onnx import numpy_helper
from torch import nn
from train_models import RECIPES, count_macs, export

from board.least import least

_CRITERIA = {
    "L1": tp.importance.MagnitudeImportance(p=1),
    "L2": tp.importance.MagnitudeImportance(p=2),
    "LAMP": tp.importance.LAMPImportance(),
    "FPGM": tp.importance.FPGMImportance(),
    "BN scale": tp.importance.BNScaleImportance(),
}


def main(model: str, recipe: str, out: str, shares: list[float]) -> None:
    """Write `OUT/<way>-<share>.onnx` for each way and share, and print one JSON line for each."""
    twin = _twin(model, recipe)
    whole = count_macs(twin)
    for criterion in _CRITERIA:
        for spread in ("layer", "global"):
            way = f"{criterion} {spread}"
            started = time.perf_counter()
            prune = cache(partial(_pruned, twin, criterion, spread))
            for share in shares:
                path = Path(out) / f"{way.replace(' ', '-')}-{share:g}.onnx"
                try:
                    ratio = least(partial(_cost, prune), share * whole, 256)
                    export(copy.deepcopy(prune(ratio)), path, keep_norms=False)
                except Exception as error:  # whatever a peer raises is its result
                    row = {"way": way, "error": f"{type(error).__name__}: {error}"}
                else:
                    row = {"way": f"{way}, {ratio:.3f}", "file": str(path)}
                seconds = time.perf_counter() - started
                print(json.dumps({**row, "share": share, "seconds": seconds}), flush=True)
                started = time.perf_counter()


def _cost(prune: Callable[[float], nn.Sequential], ratio: float) -> int:
    return count_macs(prune(ratio))


def _twin(model: str, recipe: str) -> nn.Sequential:
    network = next(r for r in RECIPES if r.name == recipe).build()
    graph = onnx.load(model).graph
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    for node in graph.node:  # the exporter stores equal weights once
        if node.op_type == "Identity" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]].clone()
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"{model} has not the weights of {recipe}: {missing}, {unexpected}")
    return network.eval()


def _pruned(twin: nn.Sequential, criterion: str, spread: str, ratio: float) -> nn.Sequential:
    network = copy.deepcopy(twin)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        network,
        torch.zeros(1, 1, 28, 28),
        importance=_CRITERIA[criterion],
        global_pruning=spread == "global",
        pruning_ratio=ratio,
        ignored_layers=[last],
    )
    pruner.step()
    return network.eval()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], [float(share) for share in sys.argv[4:]])
