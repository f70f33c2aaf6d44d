"""What one method made of one model at one share of the MACs; kept as JSON, so that nothing runs twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxprune.graph import load
from onnxprune.runtime import ExecutionOptions, Session, latency, ratio

from .counted import counted
from .run import ROOT, Candidate, Method
from .task import Task

_SLACK = 0.005  # of the share of the MACs; a peer that ends so little above its budget has met it


@dataclass(frozen=True)
class Cell:
    """One model.

    Attributes:
        key: what it depends on; another key means that it is stale.
        version: of the tool.
        way: how the tool was called.
        error: why there is no model, or none that meets the budget.
        metrics: in the order of the task's, in percent.
        macs: share of the original's, counted by `onnxprune`.
        params: share of the original's.
        size: share of the original's bytes.
        latency: ratio to the original's with the ends of its 95% interval.
        seconds: the wall time that pruning took.
        peak: the most memory that the process held, in bytes.
    """

    key: str
    way: str = ""
    error: str = ""
    metrics: tuple[float, ...] = ()
    macs: float = 1.0
    params: float = 1.0
    size: float = 1.0
    latency: tuple[float, float, float] | None = None
    seconds: float = 0.0
    peak: int = 0
    version: str = ""

    @property
    def met(self) -> bool:
        """Whether there is a model that meets the budget."""
        return not self.error


@dataclass(frozen=True)
class Section:
    """All that is known of one model.

    Attributes:
        key: what `before` depends on.
        name: of its task.
        title: of the model.
        metrics: what is measured; the first one counts.
        ours: whether the network is one of `models/`.
        before: the metrics of the original, in percent.
        params: its parameters.
        macs: its multiply-accumulates for one sample.
        bytes: of its file.
        samples: how many calibrate, and how many judge.
        cells: by method and share.
    """

    key: str
    name: str
    title: str
    metrics: tuple[str, ...]
    ours: bool
    before: tuple[float, ...]
    params: int
    macs: int
    bytes: int
    samples: tuple[int, int]
    cells: Mapping[tuple[str, float], Cell] = field(default_factory=dict)

    def lost(self, method: str, share: float) -> float | None:
        """Points of the first metric lost."""
        cell = self.cells.get((method, share))
        return None if cell is None or not cell.met else self.before[0] - cell.metrics[0]


def section(work: Path, name: str, methods: Iterable[str], shares: Sequence[float]) -> Section | None:
    """What the work folder knows of a task, if it was ever run."""
    folder = work / "cells" / name
    file = folder / "section.json"
    if not file.exists():
        return None
    found = {(m, s): cell for m in methods for s in shares if (cell := _read(folder, m, s)) is not None}
    return Section(**_row(file), cells=found)


def _read(folder: Path, method: str, share: float) -> Cell | None:
    file = _file(folder, method, share)
    return Cell(**_row(file)) if file.exists() else None


def _row(file: Path) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _file(folder: Path, method: str, share: float) -> Path:
    return folder / f"{method}-{share:g}.json"


class Book:
    """The cells of a task, in a folder of their own."""

    def __init__(self, work: Path, task: Task) -> None:
        self.task = task
        self._folder = work / "cells" / task.name
        self._folder.mkdir(parents=True, exist_ok=True)

    def describe(self) -> None:
        """Measure the original, if that is not known."""
        task, file = self.task, self._folder / "section.json"
        key = _digest("", task)
        if file.exists() and json.loads(file.read_text(encoding="utf-8"))["key"] == key:
            return
        before = counted(load(task.model), task.calib)
        counts = tuple(len(next(iter(feeds.values()))) for feeds in (task.calib, task.feeds))
        row = {
            "key": key,
            "name": task.name,
            "title": task.title,
            "metrics": task.metrics,
            "ours": task.twin is not None,
            "before": task.measure(task.model),
            **asdict(before),
            "samples": counts,
        }
        file.write_text(json.dumps(row), encoding="utf-8")

    def fill(
        self,
        name: str,
        method: Method,
        version: str,
        shares: Sequence[float],
        *,
        keep_stale: bool = False,
    ) -> Iterator[tuple[float, Cell]]:
        """Run a method for the shares that are not known yet, or stale; each as it is done."""
        key = _digest(version, self.task)
        due = []
        for share in shares:
            cell = _read(self._folder, name, share)
            if cell is None or (cell.key != key and not keep_stale):
                due.append(share)
            else:
                yield share, cell
        if not due:
            return
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        candidates = method(self.task, due, folder)
        for share in due:
            cell = self._best([c for c in candidates if c.share == share], share, key, name)
            if cell is not None:
                cell = replace(cell, version=version)
                self._put(name, share, cell)
                yield share, cell

    def _best(self, candidates: list[Candidate], share: float, key: str, name: str) -> Cell | None:
        """The candidate that meets the budget with the best metric, judged on the held-back samples."""
        cells = [(self._judge(c, key), c) for c in candidates]
        if not cells:
            return None
        ready = [(cell, c) for cell, c in cells if cell.met]
        meeting = [(cell, c) for cell, c in ready if cell.macs <= share + _SLACK]
        if not ready:
            return cells[0][0]
        if not meeting:
            cell, _ = min(ready, key=lambda pair: pair[0].macs)
            return replace(cell, error=f"{cell.macs:.2f} of the MACs is the least it reached")
        cell, candidate = max(meeting, key=lambda pair: pair[0].metrics)
        assert candidate.file is not None
        self._model(name, share).write_bytes(candidate.file.read_bytes())
        return cell

    def _judge(self, candidate: Candidate, key: str) -> Cell:
        if candidate.file is None:
            return Cell(key, candidate.way, candidate.error or "no model", peak=candidate.peak)
        try:
            metrics = self.task.measure(candidate.file)
            before, after = (counted(load(m), self.task.calib) for m in (self.task.model, candidate.file))
        except Exception as error:  # a peer's model may be anything
            return Cell(key, candidate.way, f"its model fails: {error}", peak=candidate.peak)
        return Cell(
            key,
            candidate.way,
            "",
            metrics,
            after.macs / before.macs,
            after.params / before.params,
            after.bytes / before.bytes,
            None,
            candidate.seconds,
            candidate.peak,
        )

    def time(self, name: str, share: float, seconds: float = 2.0) -> None:
        """Measure the latency of a cell's model beside the original's, on one sample."""
        file = self._model(name, share)
        cell = _read(self._folder, name, share)
        if cell is None or not cell.met or not file.exists():
            return
        feeds = {key: array[:1] for key, array in self.task.calib.items()}
        sessions = [Session(path.read_bytes(), ExecutionOptions()) for path in (file, self.task.model)]
        timings = latency(sessions, [feeds, feeds], seconds=seconds)
        measured = ratio(timings.seconds[0], timings.seconds[1])
        self._put(name, share, replace(cell, latency=(measured.value, measured.low, measured.high)))

    def _put(self, method: str, share: float, cell: Cell) -> None:
        _file(self._folder, method, share).write_text(json.dumps(asdict(cell)), encoding="utf-8")

    def _model(self, method: str, share: float) -> Path:
        return _file(self._folder, method, share).with_suffix(".onnx")


def source_version() -> str:
    """A digest of this project's package."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "onnxprune").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _digest(version: str, task: Task) -> str:
    digest = hashlib.sha256(version.encode())
    digest.update(task.model.read_bytes())
    for feeds in (task.calib, task.feeds):
        for array in feeds.values():
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
