"""What commands write for programs is as its schema says, and nothing of it is undocumented."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import onnx
import pytest
from jsonschema import Draft202012Validator
from test_cli_prune import here, prune

from onnxprune.cli import run
from onnxprune.report import seconds_line

__all__ = ["here"]


def schema(name: str) -> dict[str, Any]:
    return json.loads(resources.files("onnxprune").joinpath(f"schemas/{name}.schema.json").read_text("utf-8"))


def strict(part: Any) -> Any:
    """A schema that allows only what it names."""
    if isinstance(part, list):
        return [strict(p) for p in part]
    if not isinstance(part, dict):
        return part
    closed = {"additionalProperties": False} if isinstance(part.get("properties"), dict) else {}
    return closed | {k: strict(v) for k, v in part.items()}


def check(name: str, data: Any) -> None:
    """Hold data against its schema, which must name all of it."""
    Draft202012Validator(strict(schema(name))).validate(data)


@pytest.mark.parametrize("name", ["plan", "report", "inspect", "pareto"])
def test_schemas_are_valid_and_versioned(name):
    Draft202012Validator.check_schema(schema(name))
    version = schema(name)["properties"]["version"]["const"]
    assert schema(name)["$id"] == f"urn:onnxprune:{name}:{version}"


def test_undocumented_fields_would_show():
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        check("report", {"version": 1, "verdict": {}, "surprise": 1})


@pytest.mark.parametrize(
    "evidence", [[], ["--calib", "calib.npz", "--labels", "held.npz"]], ids=["no", "yes"]
)
def test_plans_and_reports(here, evidence):
    assert prune(*evidence, "--plan-out", "plan.json", "--report", "report.json") == 0
    check("plan", json.loads((here / "plan.json").read_text()))
    report = json.loads((here / "report.json").read_text())
    assert {"Loading", "Repairing weights"} <= report["seconds"].keys()
    check("report", report)
    assert (report["verdict"]["accuracy"] is not None) == bool(evidence)
    assert {g["kept"] < g["size"] for g in report["groups"]} == {True}
    assert [b["by"] for b in report["blocked"]] == ["output"]


def test_drops(here):
    evidence = ["--calib", "calib.npz", "--labels", "held.npz"]
    assert (
        run(["prune", "model.onnx", "-o", "out.onnx", "--max-drop", "20%", *evidence, "--report", "r.json"])
        == 0
    )
    report = json.loads((here / "r.json").read_text())
    check("report", report)
    assert report["verdict"]["drop"]["metric"] == "accuracy"


def test_curves(here):
    command = [
        "prune",
        "model.onnx",
        "-o",
        "out.onnx",
        "--pareto",
        "2",
        "--calib",
        "calib.npz",
        "--report",
        "r.json",
    ]
    assert run(command) == 0
    curve = json.loads((here / "r.json").read_text())
    Draft202012Validator(schema("pareto")).validate(curve)
    named = schema("pareto")["properties"]["models"]["items"]["properties"]
    for model in curve["models"]:
        assert (here / model["model"]).exists()
        check("report", {k: v for k, v in model.items() if k not in named})
    assert curve.keys() == schema("pareto")["properties"].keys()


def test_verdicts(here, capsys):
    assert run(["validate", "model.onnx", "model.onnx", "--json"]) == 0
    check("report", json.loads(capsys.readouterr().out))


def test_inspections(here, capsys):
    assert run(["inspect", "model.onnx", "--json"]) == 0
    check("inspect", json.loads(capsys.readouterr().out))


def test_numbers_that_json_does_not_have_become_null(here, capsys):
    model = onnx.load("model.onnx")
    head = model.graph.node[-1]
    model.graph.node.append(onnx.helper.make_node("Log", [head.output[0]], ["logs"]))
    model.graph.output[0].name = "logs"
    onnx.save(model, "logs.onnx")
    model.graph.node[-1].op_type = "Sqrt"
    onnx.save(model, "roots.onnx")
    assert run(["validate", "logs.onnx", "roots.onnx", "--json"]) == 0
    out = capsys.readouterr().out
    check("report", json.loads(out, parse_constant=pytest.fail))


def test_what_took_longest_is_told_first():
    told = seconds_line(
        {"Loading": 0.5, "Repairing weights": 43.2, "Choosing channels": 110, "Cleaning": 3.21}
    )
    assert told == "took 3 min: choosing channels 2 min, repairing weights 43 s, cleaning 3.2 s"
