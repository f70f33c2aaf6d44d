"""`docs/ci.md` is true: its five minutes work, its settings are ones, its output is what is printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from projects import Project

from onnxprune.check import limits

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "ci.md").read_text("utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, those in lists included."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def test_from_nothing_to_gated(project):
    for k, width in enumerate((8, 9)):
        project.model(f"models/m{k}.onnx", width=width)
    first, last = blocks(section("Five minutes"), "sh")
    (settings,) = blocks(section("Five minutes"), "toml")
    assert first.splitlines() == ["pip install onnxprune", "onnxprune check models/*.onnx"]
    assert project.check("models/m0.onnx", "models/m1.onnx").code == 0
    project.config(f"[project]\nname = 'net'\n\n{settings}", "pyproject.toml")
    project.git("init", "-q", "-b", "main")
    for line in last.splitlines():
        program, *arguments = shlex.split(line)
        if program == "git":
            project.git(*arguments)
        else:
            assert project.run(*arguments).code == 0
    assert project.git("log", "--format=%s").strip() == "Gate the size of models"
    assert project.check().code == 0
    project.model("models/m0.onnx", width=12)
    assert project.check().code == 1


@pytest.mark.parametrize("row", re.findall(r"^\| `([a-z]+ = .*?)` \|", section("Limits"), re.MULTILINE))
def test_limits_are_written_so(row):
    parsed = limits.parse(tomllib.loads(row), "docs")
    assert len(parsed.limited) == 1


def test_blocks_are_what_they_say(project):
    for block in blocks(TEXT, "yaml"):
        assert yaml.safe_load(block)
    for name in ("third_party/x.onnx", "vision/detector-v2.onnx", "a.onnx"):
        project.model(name)
    (monorepo,) = blocks(section("Monorepos"), "toml")
    project.config(monorepo, "pyproject.toml")
    done = project.check("--format", "json")
    assert done.code == 0
    assert [m["name"] for m in done.json["models"]] == ["a.onnx", "detector"]


def test_inputs_of_the_action():
    rows = re.findall(r"^\| `([\w-]+)` \|", section("GitHub"), re.MULTILINE)
    assert set(rows) == set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])


def test_what_is_printed_here():
    """As in a log: the command in a process of its own, in this repository."""
    (block,) = blocks(section("Five minutes"), "console")
    command, *printed = block.splitlines()
    arguments = shlex.split(command.removeprefix("$ onnxprune "))
    done = subprocess.run(
        [sys.executable, "-m", "onnxprune", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, printed)


@pytest.mark.parametrize(
    "said", re.findall(r"^\| `(.*?)` \|", section("When something is wrong"), re.MULTILINE)
)
def test_messages_are_those_of_the_code(said):
    code = "".join(f.read_text("utf-8") for f in (ROOT / "onnxprune" / "check").glob("*.py"))
    assert said in code or said == "dubious ownership"  # git's own words
