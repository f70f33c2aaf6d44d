"""How well criteria of the loss order channels: against the same loss with each channel removed alone.

    python tools/loss_criteria.py [models/digits-plain.onnx ...] [--samples 256]

For each layer Spearman's rank correlation of a criterion with the divergence of the masked network from what
the whole one says, on calibration digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from onnxprune import calibration
from onnxprune.contracts.groups import Choice, Group
from onnxprune.contracts.lesson import Lesson
from onnxprune.contracts.stats import Stats
from onnxprune.criteria import Context, get
from onnxprune.execution.sessions import open_session
from onnxprune.graph import Array, Graph, load
from onnxprune.pipeline import loaded
from onnxprune.reductions.channels import Channels, ChannelSpace
from onnxprune.types import Floats

MODELS = Path(__file__).parents[1] / "models"
NAMES = ("digits-residual", "digits-mobile", "digits-plain")
CRITERIA = ("fisher", "taylor")


def said(graph: Graph, feeds: Mapping[str, Array]) -> Floats:
    """Logarithms of the probabilities of classes."""
    (z,) = open_session(graph).run(feeds).values()
    z = z.astype(np.float64)
    z = z - z.max(1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(1, keepdims=True)))


def rises(space: ChannelSpace, group: Group, feeds: Mapping[str, Array], known: Floats) -> Floats:
    """The divergence without each of the units."""
    found = []
    for unit in range(group.size):
        kept = np.arange(group.size) != unit
        other = said(space.mask(space.network, Choice({group.id: kept})).graph, feeds)
        found.append((np.exp(known) * (known - other)).sum(1).mean())
    return np.asarray(found)


def rows(path: Path, count: int) -> Iterator[tuple[str, int, list[float]]]:
    """The name of a layer, its channels, and the correlation of each criterion."""
    network = loaded(load(path)).network
    space = Channels().find(network)
    with np.load(MODELS / "digits-calib.npz") as file:
        images = file["image"][:count]
    batches = [{"image": images[k : k + 64]} for k in range(0, count, 64)]
    wanted = space.wanted(frozenset({"slopes", "curvature"}))
    slopes = calibration.sloped(network, wanted.gates, Lesson([(b, None) for b in batches]))
    context = Context(space, Stats("", count, "", {}, slopes=slopes))
    scores = [get(name).scores(context) for name in CRITERIA]
    feeds = {"image": images}
    known = said(network.graph, feeds)
    for index, group in enumerate(space.groups):
        true = rises(space, group, feeds, known)
        yield group.name, group.size, [float(spearmanr(s[index], true)[0]) for s in scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, default=[MODELS / f"{n}.onnx" for n in NAMES])
    parser.add_argument("--samples", type=int, default=256)
    asked = parser.parse_args()
    for path in asked.models:
        print(path.stem, *CRITERIA)
        for name, size, found in rows(path, asked.samples):
            print(f"  {name} ({size})", *(f"{value:.3f}" for value in found), flush=True)


if __name__ == "__main__":
    main()
