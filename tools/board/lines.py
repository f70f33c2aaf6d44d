"""Lines of text rendered with known truth: reading them, and telling which are upside down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from .task import Array, Task
from .wheels import wheel

_RAPIDOCR = "rapidocr-onnxruntime==1.4.4"
_MATPLOTLIB = "matplotlib==3.11.2"
_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "STIXGeneralBol")
_CALIBRATION, _JUDGED = 256, 500
_WORDS = Path(__file__).with_name("words.txt").read_text(encoding="ascii").split()


def reading(work: Path) -> Task:
    """The text recogniser of RapidOCR."""
    model = wheel(work, _RAPIDOCR) / "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
    calib, _ = _render(work, _CALIBRATION, seed=1, high=48, wide=320)
    images, truth = _render(work, _JUDGED, seed=2, high=48, wide=320)
    alphabet = _alphabet(model)

    def score(given: list[Array]) -> tuple[float, ...]:
        texts = [_decode(row, alphabet) for row in given[0].argmax(axis=2)]
        right = sum(a == b for a, b in zip(texts, truth, strict=True))
        wrong = sum(_distance(a, b) for a, b in zip(texts, truth, strict=True))
        return 100 * right / len(truth), 100 * (1 - wrong / sum(map(len, truth)))

    metrics = ("lines read correctly", "characters")
    return Task("reading", "PP-OCRv4 text recogniser", model, {"x": calib}, {"x": images}, metrics, score)


def orientation(work: Path) -> Task:
    """The text orientation classifier of RapidOCR: half of the lines are turned by 180 degrees."""
    model = wheel(work, _RAPIDOCR) / "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
    calib, _ = _turned(work, _CALIBRATION, seed=3)
    images, turned = _turned(work, _JUDGED, seed=4)

    def score(given: list[Array]) -> tuple[float, ...]:
        return (100 * float(np.mean(given[0].argmax(axis=1) == turned)),)

    return Task(
        "orientation",
        "PP-OCR text orientation",
        model,
        {"x": calib},
        {"x": images},
        ("orientation accuracy",),
        score,
    )


def _turned(work: Path, count: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    turned = np.random.default_rng(seed).permutation(np.arange(count) % 2)
    images, _ = _render(work, count, seed, high=48, wide=192, turned=turned)
    return images, turned


def _render(
    work: Path,
    count: int,
    seed: int,
    *,
    high: int,
    wide: int,
    turned: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Draw lines as the wheel's own preprocessing gives them: -1 to 1, zeros where a line ends."""
    fonts = wheel(work, _MATPLOTLIB) / "matplotlib/mpl-data/fonts/ttf"
    random = np.random.default_rng(seed)
    batch = np.zeros((count, 3, high, wide), np.float32)
    texts = []
    for index in range(count):
        limit = int(random.integers(8, 12 if wide < 300 else 26))
        font = ImageFont.truetype(str(fonts / f"{random.choice(_FONTS)}.ttf"), int(random.integers(26, 38)))
        text, image = _line(random, limit, font)
        texts.append(text)
        if turned is not None and turned[index]:
            image = image.transpose(Image.Transpose.ROTATE_180)
        width = min(wide, -(-high * image.width // image.height))
        drawn = np.asarray(image.resize((width, high), Image.Resampling.BILINEAR), np.float32)
        pixels = drawn + random.normal(0, random.uniform(0, 10), drawn.shape)
        batch[index, :, :, :width] = np.clip(pixels, 0, 255).transpose(2, 0, 1) / 127.5 - 1
    return batch, texts


def _line(random: np.random.Generator, limit: int, font: ImageFont.FreeTypeFont) -> tuple[str, Image.Image]:
    text = _text(random, limit)
    left, top, right, bottom = font.getbbox(text)
    edges = random.integers(2, 8, 4)
    size = int(right - left + edges[0] + edges[1]), int(bottom - top + edges[2] + edges[3])
    paper, ink = random.integers(190, 256, 3), random.integers(0, 90, 3)
    if random.random() < 0.25:
        paper, ink = ink, paper
    image = Image.new("RGB", size, tuple(int(c) for c in paper))
    draw = ImageDraw.Draw(image)
    draw.text((edges[0] - left, edges[2] - top), text, tuple(int(c) for c in ink), font)
    return text, image


def _text(random: np.random.Generator, limit: int) -> str:
    """Words and numbers, at most `limit` characters."""
    parts: list[str] = []
    while True:
        kind = random.random()
        word = str(random.choice(_WORDS))
        if kind < 0.2:
            word = word.capitalize()
        elif kind < 0.3:
            word = word.upper()
        elif kind < 0.5:
            word = str(random.integers(10, 10 ** int(random.integers(2, 7))))
        if parts and len(" ".join([*parts, word])) > limit:
            return " ".join(parts)
        parts.append(word)


def _alphabet(model: Path) -> list[str]:
    """What each class of the recogniser means; the file carries it. Class 0 is the blank."""
    import onnx

    metadata = {p.key: p.value for p in onnx.load(model).metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def _decode(classes: Sequence[int], alphabet: list[str]) -> str:
    """The text of a line's classes, as connectionist temporal classification writes it, trimmed."""
    before = [0, *classes[:-1]]
    return "".join(alphabet[c] for c, b in zip(classes, before, strict=True) if c != b).strip()


def _distance(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]
