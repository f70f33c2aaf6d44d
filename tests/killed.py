"""Kill a command at each of its calls that change files, in a process that nothing else runs in.

    killed.py COMMAND STEP

Each run is a fork of this process, as imports take longer than all else. What is left is looked at, a later
run sweeps it, and it is looked at again. Prints how many runs there were, and what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from faults import Countdown, in_child
from projects import network

import onnxprune.cli.app  # noqa: F401  (before any fork)
from onnxprune.cli import run
from onnxprune.graph import load, write_atomic

OLD = "old"
LIMIT = 2000
PRUNE = ("prune", "m.onnx", "-o", "out.onnx", "--ratio", "0.5", "-q", "--force")
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prune": (
        (*PRUNE, "--plan-out", "plan.json", "--report", "report.json"),
        ("out.onnx", "plan.json", "report.json"),
    ),
    "in place of old weights": (
        ("apply", "m.onnx", "good-plan.json", "-o", "out.onnx", "-q", "--report", "report.json"),
        ("out.onnx", "report.json"),
    ),
    "calibrate": (
        ("calibrate", "m.onnx", "--calib", "x.npz", "-o", "stats.npz", "-q", "--evals", "0", "--no-simplify"),
        ("stats.npz",),
    ),
    "check": (("check", "m.onnx", "--update", "--baseline", "base.json"), ("base.json",)),
}


def lower_limit() -> None:
    """As if protobuf held next to nothing: weights go into files of their own."""
    for name, module in list(sys.modules.items()):
        if name.startswith("onnxprune.") and hasattr(module, "PROTOBUF_LIMIT"):
            module.PROTOBUF_LIMIT = LIMIT  # type: ignore[attr-defined]


def quietly(arguments: tuple[str, ...]) -> int:
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        return run(list(arguments))


def state(folder: Path, outputs: tuple[str, ...]) -> list[object]:
    """What outputs hold; a model as its weights, wherever they are."""
    found: list[object] = []
    for name in outputs:
        file = folder / name
        if not file.exists():
            found.append(None)
        elif name.endswith(".onnx"):
            graph = load(file)
            found.append({key: graph.raw(key).tobytes() for key in graph.constants})
        elif name.endswith((".json", ".npz")) and file.read_bytes() != OLD.encode():
            found.append("new")
        else:
            found.append(OLD)
    return found


def prepared(folder: Path, kit: Path, outputs: tuple[str, ...]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kit, folder)
    for name in outputs:
        if name.endswith(".onnx"):
            shutil.copy(folder / "before.onnx", folder / name)
        elif name != "base.json":
            (folder / name).write_text(OLD)


def in_folder(folder: Path, task: Callable[[], int], weights_apart: bool = True) -> Callable[[], None]:
    def there() -> None:
        os.chdir(folder)
        if weights_apart:
            lower_limit()
        os._exit(task())

    return there


def main(command: str, step: int) -> dict[str, object]:
    arguments, outputs = COMMANDS[command]
    root = Path(tempfile.mkdtemp(prefix="killed-"))
    kit, folder = root / "kit", root / "there"
    kit.mkdir()
    onnx.save(network(width=64), kit / "m.onnx")
    np.savez(kit / "x.npz", x=np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32))
    first = (*PRUNE, "--plan-out", "good-plan.json")
    assert in_child(in_folder(kit, lambda: quietly(first))) == 0
    (kit / "out.onnx").rename(kit / "before.onnx")
    seeded = ("apply", "m.onnx", "good-plan.json", "-o", "before.onnx", "-q", "--weights", "random")
    assert in_child(in_folder(kit, lambda: quietly(seeded))) == 0
    wrong: list[str] = []
    large = "out.onnx" in outputs
    prepared(folder, kit, outputs)
    before = state(folder, outputs)
    assert in_child(in_folder(folder, lambda: quietly(arguments), large)) == 0
    after = state(folder, outputs)
    assert before != after
    usual = {p.name for p in folder.iterdir()} | {p.name for p in kit.iterdir()}
    ends = set()
    calls = runs = 0
    while True:
        prepared(folder, kit, outputs)

        def dying(calls: int = calls) -> int:
            Countdown(calls, lambda: os.kill(os.getpid(), signal.SIGKILL)).install()
            return quietly(arguments)

        code = in_child(in_folder(folder, dying, large))
        runs += 1
        if code not in (0, -signal.SIGKILL):
            wrong.append(f"call {calls}: exit code {code}")
        try:
            state(folder, outputs)
        except Exception as error:
            wrong.append(f"call {calls}: {error}")
        write_atomic(folder / "next", b"")
        left = state(folder, outputs)
        ends.add(left == after)
        if left not in (before, after):
            told = [
                "old" if a == b else "new" if a == c else "other"
                for a, b, c in zip(left, before, after, strict=True)
            ]
            wrong.append(f"call {calls}: neither before nor after: {dict(zip(outputs, told, strict=True))}")
        more = {p.name for p in folder.iterdir()} - usual - {"next"}
        hidden = sorted(name for name in more if name.startswith("."))
        if hidden:
            wrong.append(f"call {calls}: {hidden} is left")
        if code == 0:
            break
        calls += step
    shutil.rmtree(root)
    return {"runs": runs, "calls": calls, "ends": sorted(ends), "wrong": wrong}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
