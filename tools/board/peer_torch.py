"""Prune a network of `models/` with Torch-Pruning 1.6.1; runs in its own environment.

    python -m board.peer_torch MODEL-bn.onnx RECIPE OUT SHARE...

The PyTorch twin is built by `tools/train_models.py` and gets the weights of the ONNX file. Five criteria that
need neither labels nor gradients, each with the same share of every layer or one threshold for all, give ten
candidates for each share.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import onnx
import torch
import torch_pruning as tp
from onnx import numpy_helper
from torch import nn
from train_models import RECIPES, count_macs, export

_STEPS = 10
_CRITERIA = {
    "L1": tp.importance.MagnitudeImportance(p=1),
    "L2": tp.importance.MagnitudeImportance(p=2),
    "LAMP": tp.importance.LAMPImportance(),
    "FPGM": tp.importance.FPGMImportance(),
    "BN scale": tp.importance.BNScaleImportance(),
}


def main(model: str, recipe: str, out: str, shares: list[float]) -> None:
    """Write `OUT/<way>-<share>.onnx` for each way and share, and print one JSON line for each."""
    whole = count_macs(_twin(model, recipe))
    for criterion in _CRITERIA:
        for spread in ("layer", "global"):
            for share in shares:
                way = f"{criterion} {spread}"
                started = time.perf_counter()
                try:
                    ratio = _least(model, recipe, criterion, spread, share * whole)
                    path = Path(out) / f"{way.replace(' ', '-')}-{share:g}.onnx"
                    export(_pruned(model, recipe, criterion, spread, ratio), path, keep_norms=False)
                except Exception as error:  # whatever a peer raises is its result
                    error_text = f"{type(error).__name__}: {error}"
                    print(json.dumps({"way": way, "share": share, "error": error_text}), flush=True)
                    continue
                row = {"way": f"{way}, {ratio:.3f}", "share": share, "file": str(path)}
                print(json.dumps({**row, "seconds": time.perf_counter() - started}), flush=True)


def _twin(model: str, recipe: str) -> nn.Sequential:
    network = next(r for r in RECIPES if r.name == recipe).build()
    weights = {
        t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(model).graph.initializer
    }
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"{model} has not the weights of {recipe}: {missing}, {unexpected}")
    return network.eval()


def _pruned(model: str, recipe: str, criterion: str, spread: str, ratio: float) -> nn.Sequential:
    network = _twin(model, recipe)
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


def _least(model: str, recipe: str, criterion: str, spread: str, limit: float) -> float:
    """The smallest ratio that leaves at most so many MACs."""
    low, high = 0.0, 0.99
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if count_macs(_pruned(model, recipe, criterion, spread, middle)) <= limit:
            high = middle
        else:
            low = middle
    return high


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], [float(share) for share in sys.argv[4:]])
