"""What pages say of the code holds: the types of the data flow, and files that they name."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import typing
from functools import cached_property
from pathlib import Path

import pytest

import onnxprune
from onnxprune import plan as plans

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")])
FLOW = (ROOT / "docs/data-flow.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^\| `([\w.]+)` \| `(\w+)` \|", FLOW, re.MULTILINE)


def resolved(path: str) -> object:
    """What a dotted path below `onnxprune` names: a module, or what is in one."""
    parts = path.split(".")
    found: object = importlib.import_module("onnxprune")
    for k, part in enumerate(parts, 1):
        try:
            found = importlib.import_module(f"onnxprune.{'.'.join(parts[:k])}")
        except ModuleNotFoundError:
            found = inspect.getattr_static(found, part)
    return found


def returned(function: object) -> str:
    """The name of the type that a function, or a property, is declared to return."""
    if isinstance(function, property):
        function = function.fget
    if isinstance(function, cached_property):
        function = function.func
    found = typing.get_type_hints(function)["return"]
    plain = [a for a in typing.get_args(found) if a is not type(None)] if typing.get_args(found) else []
    if type(None) in typing.get_args(found):
        (found,) = plain
    return (typing.get_origin(found) or found).__name__


def test_the_flow_has_its_steps():
    assert len(STEPS) > 35


@pytest.mark.parametrize(("function", "kind"), STEPS)
def test_each_step_of_the_flow_gives_what_the_page_says(function, kind):
    assert returned(resolved(function)) == kind


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_name_files_and_modules_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:onnxprune|tests|tools|docs|models)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


EXAMPLES = [
    "calibration.run",
    "check.quantity",
    "contracts.budget",
    "contracts.groups",
    "contracts.options",
    "contracts.selection",
    "criteria",
    "errors",
    "graph.files",
    "graph.network",
    "pipeline.api",
    "pipeline.finetuning",
    "pipeline.judge",
    "pipeline.load",
    "plan.files",
    "proof.whole",
    "quality.interval",
    "reductions.channels.space",
    "runtime.session",
    "samples",
    "strategies.ladder",
    "strategies.schedule",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(f"onnxprune.{name}"))
    assert found.attempted
    assert not found.failed


def test_no_examples_are_left_out():
    files = (
        p for p in (ROOT / "onnxprune").rglob("*.py") if re.search("^ +>>> ", p.read_text("utf-8"), re.M)
    )
    names = (".".join(p.relative_to(ROOT / "onnxprune").with_suffix("").parts) for p in files)
    assert sorted(name.removesuffix(".__init__") for name in names) == EXAMPLES


@pytest.mark.parametrize("name", sorted(set(onnxprune.__all__)))
def test_what_is_public_is_documented(name):
    found = getattr(onnxprune, name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        assert "Example:" in inspect.getdoc(found)


def test_types_of_the_glossary_exist():
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\(`([A-Z]\w+)`\)", text))
    classes = {
        name
        for path in (ROOT / "onnxprune").rglob("*.py")
        for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.M)
    }
    assert len(named) > 15
    assert named <= classes


def test_the_plan_on_the_json_page_can_be_read():
    (plan,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs/json.md").read_text("utf-8"), re.DOTALL)
    (group,) = plans.loads(plan).groups
    assert (group.size, group.kept, len(group.tensors)) == (4, 3, 3)
