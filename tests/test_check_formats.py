"""What each format says, and that names in models can't break out of it."""

from __future__ import annotations

import json
import os
import re
from xml.etree import ElementTree

import onnx
import pytest
from projects import Project

from onnxprune.check.formats.markdown import LIMIT, MARKER


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path, capsys)
    project.model("a.onnx")
    project.model("b.onnx", width=9)
    project.config(
        '[[check.models]]\npath = "a.onnx"\nnodes = 3\nsize = "+2%"\n'
        '[[check.models]]\npath = "b.onnx"\nnodes = 2\nopset = { warn = 16 }\n'
    )
    return project


def test_table(project):
    done = project.check()
    assert done.code == 1
    *_, note, missing, warning, failure, verdict = done.out.rstrip().splitlines()
    assert note == "note: assumes batch=1 (2 models)"
    assert missing.startswith("warning: there is no baseline")
    assert warning == "warn: b.onnx: opset is 17; the limit is ≤ 16"
    assert failure == "fail: b.onnx: nodes is 3; the limit is ≤ 2"
    assert verdict == "failed: 1 of 2 models beyond a limit"


def rows(done):
    return [line.split()[0] for line in done.out.splitlines() if line.startswith(("size", "nodes", "MACs"))]


def test_the_table_leaves_out_what_nobody_limits_and_nothing_changed(project):
    project.limits('size = "+2%"', "a.onnx")
    assert rows(project.check()) == ["size", "MACs", "nodes"]  # no baseline: all of it is news
    project.check("--update")
    assert rows(project.check()) == ["size"]
    assert "dead channels" in project.check("--measure", "dead-channels").out
    project.model("a.onnx", extra=1)
    assert rows(project.check()) == ["size", "nodes"]
    project.model("a.onnx", width=4)
    done = project.check()
    assert rows(done) == ["size", "MACs"]
    assert "pass, better" in done.out


def test_json(project):
    report = project.check("--format", "json").json
    assert (report["version"], report["status"]) == (1, "fail")
    assert report["models"][1]["metrics"]["nodes"] == {
        "value": 3,
        "baseline": None,
        "limit": "≤ 2",
        "status": "fail",
        "message": "nodes is 3; the limit is ≤ 2",
        "improved": False,
    }


def test_junit(project):
    root = ElementTree.fromstring(project.check("--format", "junit").out)
    totals = {"name": "onnxprune check", "tests": "4", "failures": "1", "errors": "0"}
    assert root.attrib == totals, "what the schema of Jenkins knows"
    assert [s.get("skipped") for s in root] == ["1", "0"]
    cases = {(c.get("classname"), c.get("name")): c for c in root.iter("testcase")}
    assert cases["b.onnx", "nodes"].find("failure").get("message") == "nodes is 3; the limit is ≤ 2"
    assert cases["a.onnx", "size"].find("skipped") is not None
    assert cases["b.onnx", "opset"].find("failure") is None
    assert "warning: opset is 17" in cases["b.onnx", "opset"].findtext("system-out")


def test_markdown(project):
    body = project.check("--format", "markdown").out
    assert body.startswith(f"{MARKER}\n### ❌ onnxprune check: failed: 1 of 2 models")
    assert "| ❌ | nodes |  | 3 |  | ≤ 2 |" in body
    assert body.index("<b>b.onnx</b>") < body.index("<b>a.onnx</b>")  # trouble first
    assert "<details open><summary>❌ <b>b.onnx</b>" in body


def test_a_comment_fits_whatever_the_number_of_models(project):
    for k in range(200):
        project.model(f"many/m{k:03}.onnx")
    project.limits("nodes = 2", "many/*.onnx")
    body = project.check("--format", "markdown").out
    assert LIMIT / 2 < len(body) <= LIMIT + 100
    assert re.search(r"…and \d+ more models", body)


def test_github(project, monkeypatch):
    page = project.root / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    lines = project.check("--format", "github").out.splitlines()
    assert "::error file=b.onnx,title=b.onnx%3A nodes::nodes is 3; the limit is ≤ 2" in lines
    assert "::warning file=b.onnx,title=b.onnx%3A opset::opset is 17; the limit is ≤ 16" in lines
    (missing,) = [line for line in lines if line.startswith("::warning title=onnxprune check::")]
    assert "there is no baseline" in missing
    assert page.read_text().startswith(f"before\n{MARKER}\n")


def test_sarif(project):
    (run,) = json.loads(project.check("--format", "sarif").out)["runs"]
    error, warning = run["results"]
    assert (error["ruleId"], error["level"], warning["level"]) == ("nodes", "error", "warning")
    assert run["tool"]["driver"]["rules"][error["ruleIndex"]]["id"] == "nodes"
    assert error["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "b.onnx"


def test_several_formats_at_once(project):
    done = project.check("--format", "github", "--format", "json=r.json", "--format", "junit=r.xml")
    assert "::error" in done.out
    assert json.loads((project.root / "r.json").read_text())["status"] == "fail"
    assert ElementTree.parse(project.root / "r.xml").getroot().tag == "testsuites"


@pytest.mark.parametrize("name", ["table", "json", "junit", "markdown", "github", "sarif"])
def test_a_file_name_that_is_no_unicode(project, name):
    odd = os.fsdecode(b"\xff.onnx")
    project.limits("nodes = 3", "b.onnx")
    try:
        (project.root / "a.onnx").rename(odd)
    except OSError:
        pytest.skip("this file system refuses such names")
    assert project.check(odd, "--format", f"{name}=report").code == 0
    (project.root / "report").read_text("utf-8")
    assert project.check(odd, "--format", name).out.encode()


HOSTILE = "]]>\n::error::x|`<script>\x01[link](http://a)@all"


def test_names_cannot_break_out(project):
    model = onnx.load(project.root / "a.onnx")
    model.graph.node[1].op_type = HOSTILE
    model.graph.node[1].domain = "org.example"
    onnx.save(model, project.root / "a.onnx")
    project.limits('operators = ["Conv"]', "a.onnx")
    assert project.check().code == 1
    assert json.loads(project.check("--format", "json").out)["status"] == "fail"
    assert ElementTree.fromstring(project.check("--format", "junit").out) is not None
    stop, *shown, command = project.check("--format", "github").out.splitlines()
    word = stop.removeprefix("::stop-commands::")
    assert shown.index(f"::{word}::") == len(shown) - 1
    assert command.startswith("::error file=a.onnx,")
    assert "\ufffd::error::x" in command
    assert not any(line.lstrip().startswith("::error") for line in shown)
    body = project.check("--format", "markdown").out
    assert "<script>" not in body
    assert "@all" not in body
    assert "[link](" not in body
