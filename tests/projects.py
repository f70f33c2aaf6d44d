"""Projects for tests of the gate: a folder with models, a configuration and perhaps a git repository."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxprune.cli import run


def network(
    width: int = 8, *, dead: int = 0, seed: int = 0, opset: int = 17, extra: int = 0, prefix: str = ""
) -> onnx.ModelProto:
    """Conv(3 -> width, 3x3) - Relu - Conv(width -> 4, 1x1) on [batch, 3, 8, 8]; `extra` more Relu in the end.

    With width 8: 3*8*9 + 8 + 8*4 = 256 parameters; 8*8 * (3*8*9 + 8*4) = 15,872 MACs for one sample.
    """
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((width, 3, 3, 3)).astype(np.float32)
    first[:dead] = 0
    weights = {
        "w1": first,
        "b1": np.ones(width, np.float32),
        "w2": rng.standard_normal((4, width, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", f"{prefix}w1", f"{prefix}b1"], [f"{prefix}c"], f"{prefix}conv1", pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", [f"{prefix}c"], [f"{prefix}r"], f"{prefix}relu"),
        helper.make_node("Conv", [f"{prefix}r", f"{prefix}w2"], ["y0"], f"{prefix}conv2"),
        *(helper.make_node("Relu", [f"y{k}"], [f"y{k + 1}"], f"{prefix}relu{k}") for k in range(extra)),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info(f"y{extra}", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [numpy_helper.from_array(value, f"{prefix}{name}") for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@dataclass
class Done:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A folder that commands run in.

    Args:
        root: the folder, which is also the working folder.
        capsys: pytest's, to read what commands print.
    """

    def __init__(self, root: Path, capsys: Any) -> None:
        self.root = root
        self._capsys = capsys

    def model(self, name: str = "model.onnx", /, *, external: bool = False, **arguments: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        model = network(**arguments)
        if external:
            (path.parent / f"{path.name}.data").unlink(missing_ok=True)
            onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
        else:
            onnx.save(model, path)
        return path

    def config(self, text: str, name: str = "onnxprune.toml") -> None:
        (self.root / name).write_text(text, encoding="utf-8")

    def limits(self, text: str, path: str = "*.onnx") -> None:
        self.config(f'[[check.models]]\npath = "{path}"\n{text}\n')

    def run(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        code = run(list(arguments))
        said = self._capsys.readouterr()
        return Done(code, said.out, said.err)

    def check(self, *arguments: str) -> Done:
        return self.run("check", *arguments)

    def findings(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """The metrics of the only model."""
        (model,) = self.check("--format", "json", *arguments).json["models"]
        return model["metrics"]

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        if not (self.root / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")
