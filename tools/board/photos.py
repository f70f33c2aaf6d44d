"""Photos that wheels carry: finding in them what the original detector finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .task import Array, Task, outputs
from .wheels import wheel

_NUDENET = "nudenet==3.4.2"
_CALIBRATION = {
    "scikit-image==0.26.0": (
        "skimage/data/astronaut.png",
        "skimage/data/coffee.png",
        "skimage/data/chelsea.png",
    ),
    "ultralytics==8.4.190": ("ultralytics/assets/bus.jpg",),
    "scikit-learn==1.9.1": ("sklearn/datasets/images/flower.jpg",),
}
_JUDGED = {
    "matplotlib==3.11.2": ("matplotlib/mpl-data/sample_data/grace_hopper.jpg",),
    "ultralytics==8.4.190": ("ultralytics/assets/zidane.jpg",),
}
_SIZE, _COUNT = 320, 256
_CONFIDENCE, _FAINT, _OVERLAP, _SAME = 0.25, 0.05, 0.45, 0.5


def detection(work: Path) -> Task:
    """The YOLOv8n detector of NudeNet."""
    model = wheel(work, _NUDENET) / "nudenet/320n.onnx"
    calib = _crops(work, _CALIBRATION, seed=6)
    images = _crops(work, _JUDGED, seed=7)
    truth = [_boxes(image, _CONFIDENCE) for image in outputs(model, {"images": images})[0]]

    def score(given: list[Array]) -> tuple[float, ...]:
        found = [_boxes(image, _FAINT) for image in given[0]]
        hits = np.concatenate([_hits(a, b) for a, b in zip(truth, found, strict=True)])
        scores = np.concatenate([boxes[:, 4] for boxes in found])
        sure = scores >= _CONFIDENCE
        wanted = sum(map(len, truth))
        f1 = 2 * hits[sure].sum() / (wanted + sure.sum())
        return 100 * _average_precision(hits[np.argsort(-scores, kind="stable")], wanted), 100 * float(f1)

    metrics = ("average precision, the original's boxes as truth", "F1 of boxes at 0.25")
    return Task(
        "detection", "NudeNet 320n (YOLOv8n)", model, {"images": calib}, {"images": images}, metrics, score
    )


def _crops(work: Path, photos: Mapping[str, tuple[str, ...]], seed: int) -> npt.NDArray[np.float32]:
    """Squares cut out of photos at random, half of them mirrored: RGB, 0 to 1."""
    random = np.random.default_rng(seed)
    images = []
    for requirement, names in photos.items():
        for name in names:
            with Image.open(wheel(work, requirement) / name) as photo:
                images.append(photo.convert("RGB"))
    batch = np.empty((_COUNT, 3, _SIZE, _SIZE), np.float32)
    for index in range(_COUNT):
        image = images[index % len(images)]
        side = random.uniform(0.35, 1) * min(image.size)
        left, top = (random.uniform(0, length - side) for length in image.size)
        crop = image.resize((_SIZE, _SIZE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        if random.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        light = random.uniform(0.8, 1.2)
        batch[index] = np.clip(np.asarray(crop, np.float32) / 255 * light, 0, 1).transpose(2, 0, 1)
    return batch


def _boxes(given: Array, confidence: float) -> npt.NDArray[np.float64]:
    """(found, 6): corners, score and class of what stays after suppression, best first."""
    rows = np.asarray(given, np.float64).T
    scores, classes = rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)
    sure = np.flatnonzero(scores >= confidence)
    sure = sure[np.argsort(-scores[sure], kind="stable")]
    half = rows[sure, 2:4] / 2
    boxes = np.column_stack([rows[sure, :2] - half, rows[sure, :2] + half, scores[sure], classes[sure]])
    kept: list[int] = []
    for index in range(len(boxes)):
        if all(_iou(boxes[index], boxes[other]) <= _OVERLAP for other in kept):
            kept.append(index)
    return boxes[kept]


def _hits(truth: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(found,): 1 where a box has a partner of its class; each true box is a partner once."""
    free = list(range(len(truth)))
    hits = np.zeros(len(found))
    for index, box in enumerate(found):
        same = [i for i in free if truth[i, 5] == box[5]]
        partner = max(same, key=lambda i: _iou(truth[i], box), default=None)
        if partner is not None and _iou(truth[partner], box) >= _SAME:
            free.remove(partner)
            hits[index] = 1
    return hits


def _average_precision(hits: npt.NDArray[np.float64], wanted: int) -> float:
    """The area under precision against recall, of boxes with the best score first."""
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    reached = np.maximum.accumulate(precision[::-1])[::-1]
    return float((reached * hits).sum() / wanted)


def _iou(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    common = np.clip(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    both = np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2]) - common
    return float(common / both) if both > 0 else 0.0
