"""The networks in `models/`: their accuracy on held-out digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .task import Array, Task

_MODELS = Path(__file__).parents[2] / "models"
NAMES = tuple(f"digits-{kind}{suffix}" for kind in ("residual", "mobile", "plain") for suffix in ("", "-bn"))


def digits(name: str) -> Task:
    """The task of one network, by its name in `models/`."""
    with np.load(_MODELS / "digits-calib.npz") as data:
        calib = {"image": data["image"]}
    with np.load(_MODELS / "digits-heldout.npz") as data:
        feeds, labels = {"image": data["image"]}, data["labels"]

    def score(given: list[Array]) -> tuple[float, ...]:
        return (100 * float(np.mean(given[0].argmax(axis=1) == labels)),)

    model = _MODELS / f"{name}.onnx"
    return Task(name, name, model, calib, feeds, ("accuracy",), score, name.removesuffix("-bn"))
