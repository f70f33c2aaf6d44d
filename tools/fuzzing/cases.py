"""Cases: a seed, what is done to it, and the commands that read it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx

from . import seeds
from .mutate import (
    BYTE_EDITS,
    JSON_EDITS,
    MODEL_EDITS,
    Edit,
    mutated_bytes,
    mutated_json,
    mutated_model,
)
from .runner import Limits, Run, run
from .verdicts import faults

MEMORY = 3 << 30
"""Bytes that a command may hold on inputs of a few kilobytes."""

SECONDS = 60.0

_SMALL = ("--force", "--quiet")

READERS: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "model": (
            ("inspect", "m.onnx"),
            ("inspect", "m.onnx", "--json", "--simplify"),
            ("prune", "m.onnx", "-o", "out.onnx", "--ratio", "0.5", *_SMALL),
            (
                "prune",
                "m.onnx",
                "-o",
                "out.onnx",
                "--ratio",
                "0.5",
                "--no-simplify",
                "--repair",
                "none",
                *_SMALL,
            ),
            (
                "prune",
                "m.onnx",
                "-o",
                "out.onnx",
                "--macs",
                "0.6",
                "--calib",
                "random",
                "--samples",
                "4",
                *_SMALL,
            ),
            ("calibrate", "m.onnx", "-o", "out.npz", "--calib", "random", "--samples", "2", "--quiet"),
            ("apply", "m.onnx", "plan.json", "-o", "out.onnx", "--quiet"),
            ("validate", "m.onnx", "m.onnx"),
            ("validate", "good.onnx", "m.onnx", "--json"),
            ("bench", "m.onnx", "good.onnx", "--seconds", "0"),
            ("profile", "m.onnx", "--quiet"),
            ("check", "m.onnx", "--measure", "latency", "--measure", "dead-channels"),
            ("check", "m.onnx", "--format", "github"),
            ("check", "m.onnx", "--format", "markdown", "--baseline", "good.onnx"),
            ("diff", "m.onnx", "good.onnx"),
            ("diff", "good.onnx", "m.onnx", "--json"),
        ),
        "samples": (
            ("prune", "good.onnx", "-o", "out.onnx", "--ratio", "0.5", "--calib", "FILE", *_SMALL),
            ("prune", "good.onnx", "-o", "out.onnx", "--ratio", "0.5", "--labels", "FILE", *_SMALL),
            ("validate", "good.onnx", "good.onnx", "--calib", "FILE"),
        ),
        "plan": (("apply", "good.onnx", "FILE", "-o", "out.onnx", "--quiet"),),
        "stats": (
            (
                "prune",
                "good.onnx",
                "-o",
                "out.onnx",
                "--ratio",
                "0.5",
                "--criterion",
                "obs",
                "--stats",
                "FILE",
                *_SMALL,
            ),
            ("calibrate", "FILE", "FILE", "--merge", "-o", "out.npz"),
        ),
        "table": (("profile", "good.onnx", "--profile-in", "FILE"),),
        "config": (("check", "--config", "FILE"), ("check", "--config", "FILE", "--format", "json")),
        "baseline": (
            ("check", "good.onnx", "--baseline", "FILE"),
            ("check", "good.onnx", "--baseline", "FILE", "--ratchet"),
        ),
    }
)
"""What reads a file of each kind."""

FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "npz": ("samples", "f.npz"),
        "npz, compressed": ("samples", "f.npz"),
        "npy": ("samples", "f.npy"),
        "tensor": ("samples", "f.pb"),
        "png": ("samples", "f.png"),
        "jpeg": ("samples", "f.jpg"),
        "gif": ("samples", "f.gif"),
        "tiff": ("samples", "f.tiff"),
        "webp": ("samples", "f.webp"),
        "plan": ("plan", "f.json"),
        "stats": ("stats", "f.npz"),
        "table": ("table", "f.json"),
        "config": ("config", "f.toml"),
        "baseline": ("baseline", "f.json"),
    }
)
"""Seed -> what kind it is, and under which name commands find it."""

JSON = ("plan", "table", "baseline")


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        seed: a model of `seeds.MODELS`, or one of `FILES`.
        edits: what is done to it: all to the graph, all to the bytes, or all to the JSON.
        commands: which of the commands that read it run.
    """

    seed: str
    edits: tuple[Edit, ...]
    commands: tuple[int, ...]

    @property
    def kind(self) -> str:
        """What reads it."""
        return "model" if self.seed in seeds.MODELS else FILES[self.seed][0]

    def data(self, kit: Kit) -> bytes:
        """The file."""
        names = {edit.name for edit in self.edits}
        if self.kind == "model":
            model = seeds.MODELS[self.seed]()
            if names <= MODEL_EDITS.keys():
                return mutated_model(model, self.edits)
            return mutated_bytes(model.SerializeToString(deterministic=True), self.edits)
        good = kit.files[self.seed]
        if self.seed in JSON and names <= JSON_EDITS.keys():
            return mutated_json(good.decode(), self.edits)
        return mutated_bytes(good, [edit for edit in self.edits if edit.name in BYTE_EDITS])

    def dumped(self) -> dict[str, Any]:
        """For JSON."""
        return {"seed": self.seed, "edits": [list(e) for e in self.edits], "commands": list(self.commands)}


def loaded(data: Mapping[str, Any]) -> Case:
    """A case that `dumped` gave."""
    return Case(data["seed"], tuple(Edit(*e) for e in data["edits"]), tuple(data["commands"]))


@dataclass(frozen=True)
class Kit:
    """Good files, made once.

    Attributes:
        files: seed -> its contents.
        plan: a plan for the good model.
    """

    files: Mapping[str, bytes]
    plan: bytes


def kit() -> Kit:
    """Make all good files; plans, statistics and baselines by the package itself."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(seeds.convolutions(), folder / "good.onnx")
        for arguments in (
            ("prune", "good.onnx", "-o", "o.onnx", "--ratio", "0.5", "--plan-out", "plan.json", *_SMALL),
            ("calibrate", "good.onnx", "-o", "s.npz", "--calib", "random", "--samples", "8", "--quiet"),
            ("check", "good.onnx", "--update", "--baseline", "b.json"),
        ):
            done = run(arguments, folder)
            if done.code != 0:
                raise RuntimeError(done.err.decode())
        made: dict[str, Callable[[], bytes]] = {
            "npz": seeds.samples,
            "npz, compressed": partial(seeds.samples, True),
            "npy": seeds.npy,
            "tensor": seeds.tensor,
            "plan": (folder / "plan.json").read_bytes,
            "stats": (folder / "s.npz").read_bytes,
            "baseline": (folder / "b.json").read_bytes,
            "table": seeds.TABLE.encode,
            "config": seeds.CONFIG.encode,
            **{kind: partial(seeds.picture, kind) for kind in ("png", "jpeg", "gif", "tiff", "webp")},
        }
        return Kit({name: make() for name, make in made.items()}, (folder / "plan.json").read_bytes())


@dataclass(frozen=True)
class Found:
    """What became of a command on a case.

    Attributes:
        case: the input.
        run: how it ended.
        faults: what is wrong with that; nothing, where it is clean.
    """

    case: Case
    run: Run
    faults: tuple[str, ...]

    @property
    def signature(self) -> str:
        """Equal for what is probably the same fault."""
        last = (self.run.err.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        words = "".join(c if c.isalpha() else " " for c in last.partition("(")[2][:60] or last[-60:])
        return f"{self.run.arguments[0]}: {', '.join(self.faults)}: {' '.join(words.split())}"


def tried(case: Case, good: Kit, limits: Limits | None = None) -> list[Found]:
    """Run the commands of a case: all runs, most of them without faults."""
    limits = limits or Limits(SECONDS, 8 << 30)
    found = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for command in case.commands:
            shutil.rmtree(folder)
            folder.mkdir()
            arguments = _laid_out(case, good, folder, command)
            ended = run(arguments, folder, limits, environment={"ONNXPRUNE_CACHE": str(folder)})
            found.append(Found(case, ended, faults(ended, MEMORY)))
    return found


def _laid_out(case: Case, good: Kit, folder: Path, command: int) -> Sequence[str]:
    """The files of a case in a folder, and the command."""
    onnx.save(seeds.convolutions(), folder / "good.onnx")
    (folder / "plan.json").write_bytes(good.plan)
    (folder / "w.bin").write_bytes(bytes(4096))
    readers = READERS[case.kind]
    name = "m.onnx" if case.kind == "model" else FILES[case.seed][1]
    (folder / name).write_bytes(case.data(good))
    return [name if word == "FILE" else word for word in readers[command % len(readers)]]


def line(case: Case) -> str:
    """A case in one line of JSON."""
    return json.dumps(case.dumped())
