"""Commands with what they took, and the tools that are compared."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .task import Task
from .wheels import Missing

ROOT = Path(__file__).parents[2]
ONNXSIM = ("onnxsim==0.8.1", "onnxruntime", ".")
TORCH = ("torch==2.13.0", "torch-pruning==1.6.1", "onnxscript", ".")


@dataclass(frozen=True)
class Ran:
    """What a command gave and took.

    Attributes:
        code: its exit code.
        out: its standard output.
        error: the last line of its standard error.
        seconds: wall time.
        peak: the most memory that it held, in bytes.
    """

    code: int
    out: str
    error: str
    seconds: float
    peak: int


@dataclass(frozen=True)
class Candidate:
    """A pruned model that a tool gave for a share of the MACs, or why it gave none.

    Attributes:
        share: what was asked for.
        way: how the tool was called, in short.
        file: the pruned model.
        error: why there is none.
        seconds: the wall time it took.
        peak: the most memory that the process held, in bytes.
    """

    share: float
    way: str
    file: Path | None
    error: str
    seconds: float
    peak: int


Method = Callable[[Task, Sequence[float], Path], list[Candidate]]


def run(command: Sequence[str | Path], path: Sequence[Path] = ()) -> Ran:
    """Run a command to its end; `path` is where it finds Python modules."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "200"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        started = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=error, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, error):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    lines = texts[1].strip().splitlines() or [""]
    return Ran(process.returncode, texts[0], lines[-1], seconds, usage.ru_maxrss * 1024)


def onnxprune(*flags: str, calibrated: bool) -> Method:
    """This project's command line, as a user would call it."""

    def method(task: Task, shares: Sequence[float], folder: Path) -> list[Candidate]:
        calib = ["--calib", str(samples(task, folder))] if calibrated else []
        found = []
        for share in shares:
            file = folder / f"{share:g}.onnx"
            command: list[str | Path] = [sys.executable, "-m", "onnxprune", "prune", task.model, "-o", file]
            ran = run([*command, "--macs", f"{share:g}", *calib, *flags, "--force", "--quiet"], [ROOT])
            kept = file if ran.code == 0 else None
            found.append(Candidate(share, " ".join(flags), kept, ran.error, ran.seconds, ran.peak))
        return found

    return method


def onnxsim(work: Path) -> Method:
    """The other ONNX pruner."""

    def method(task: Task, shares: Sequence[float], folder: Path) -> list[Candidate]:
        python = environment(work, "onnxsim", ONNXSIM)
        return _peer(python, "peer_onnxsim", [task.model, samples(task, folder), folder], shares)

    return method


def torch_pruning(work: Path) -> Method:
    """The PyTorch pruner, for networks with a PyTorch twin; files of one network share what it gave."""

    def method(task: Task, shares: Sequence[float], _folder: Path) -> list[Candidate]:
        if task.twin is None:
            return []
        python = environment(work, "torch", TORCH)
        weights = ROOT / "models" / f"{task.twin}-bn.onnx"
        digest = hashlib.sha256(weights.read_bytes() + " ".join(TORCH).encode()).hexdigest()[:8]
        folder = work / "twins" / f"{task.twin}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        due = [share for share in shares if not (folder / f"{share:g}.json").exists()]
        if due:
            found = _peer(python, "peer_torch", [weights, task.twin, folder], due)
            if not any(candidate.file for candidate in found):
                return found
            for share in due:
                rows = [{**asdict(c), "file": c.file and str(c.file)} for c in found if c.share == share]
                (folder / f"{share:g}.json").write_text(json.dumps(rows), encoding="utf-8")
        kept = [json.loads((folder / f"{share:g}.json").read_text(encoding="utf-8")) for share in shares]
        return [_candidate(row, int(row["peak"])) for rows in kept for row in rows]

    return method


def environment(work: Path, name: str, requirements: Sequence[str]) -> Path:
    """The Python of a virtual environment in the work folder.

    Raises:
        Missing: it is not there; the message says how to make it.
    """
    python = work / name / "bin" / "python"
    if not python.exists():
        wanted = " ".join(requirements)
        raise Missing(
            f"{name} has no environment; make it in the project's folder: "
            f"python -m venv {work / name} && {work / name}/bin/pip install {wanted}"
        )
    return python


def samples(task: Task, folder: Path) -> Path:
    """The calibration samples of a task as a file."""
    file = folder / "calib.npz"
    np.savez(file, **dict[str, Any](task.calib))
    return file


def _peer(
    python: Path, module: str, arguments: Sequence[str | Path], shares: Sequence[float]
) -> list[Candidate]:
    command = [python, "-m", f"board.{module}", *arguments, *(f"{share:g}" for share in shares)]
    ran = run(command, [ROOT, ROOT / "tools"])
    rows = [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]
    if ran.code or not rows:
        return [Candidate(s, module, None, ran.error, ran.seconds, ran.peak) for s in shares]
    return [_candidate(row, ran.peak) for row in rows]


def _candidate(row: Mapping[str, object], peak: int) -> Candidate:
    file = row.get("file")
    return Candidate(
        float(str(row["share"])),
        str(row["way"]),
        None if file is None else Path(str(file)),
        str(row.get("error", "")),
        float(str(row.get("seconds", 0))),
        peak,
    )
