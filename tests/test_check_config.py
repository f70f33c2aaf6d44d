"""Where settings come from, what they may hold, and which files they mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from projects import Project

import onnxprune
from onnxprune.check.metrics import METRICS, SETS

SCHEMA = Path(onnxprune.__file__).parent / "schemas" / "check.schema.json"


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def names(done):
    return [m["name"] for m in done.json["models"]]


def test_the_schema_is_one_and_knows_every_metric():
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    own = set(schema["$defs"]["model"]["properties"]) - {"path", "name", "dims"}
    assert own == {*METRICS, *SETS}


@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("pyproject.toml", "tool.onnxprune.check"),
        ("onnxprune.toml", "check"),
        ("limits.toml", "tool.onnxprune.check"),
    ],
)
def test_configuration_files(project, file, table):
    project.model()
    project.config(f'[[{table}.models]]\npath = "model.onnx"\nsize = "1 B"\n', file)
    explicit = ("--config", file) if file == "limits.toml" else ()
    assert project.check(*explicit).code == 1


def test_the_nearest_configuration_counts_from_anywhere_below(project, monkeypatch):
    project.model("models/a.onnx")
    project.limits('size = "1 B"', "models/*.onnx")
    (project.root / "models" / "pyproject.toml").write_text("[project]\nname = 'onnxprune-user'\n")
    monkeypatch.chdir(project.root / "models")
    done = project.check("--format", "json")
    assert done.code == 1
    assert names(done) == ["models/a.onnx"]
    assert done.json["models"][0]["path"] == "a.onnx"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[check]\nmodls = []", "unknown key 'modls'; did you mean 'models'?"),
        (
            '[[check.models]]\npath = "a"\nsizes = "1 MB"',
            "models[0]: unknown key 'sizes'; did you mean 'size'?",
        ),
        ('[[check.models]]\npath = "a"\npeak_memory = 1', "did you mean 'peak-memory'?"),
        (
            '[[check.models]]\npath = "a"\nsize = { relativ = "+2%" }',
            "models[0].size: unknown key 'relativ'; did you",
        ),
        (
            '[[check.models]]\npath = "a"\nsize = { fial = "2 MB" }',
            "models[0].size: unknown key 'fial'; did you mean 'fail'",
        ),
        ("[[check.models]]\nsize = 1", "models[0]: 'path' is a required property"),
        ("[[check.models]]\npath = 3", "models[0].path: 3 is not"),
        (
            '[[check.models]]\npath = "a"\nsize = "12 XB"',
            "models[0].size: '12 XB' is not a quantity; write '12 MB'",
        ),
        ('[[check.models]]\npath = "a"\nlatency = 5', "models[0].latency: 5 has no unit; write '5 ms'"),
        ('[[check.models]]\npath = "a"\nsize = true', "models[0].size: True is not"),
        ('[[check.models]]\npath = "a"\noperators = "Conv"', "models[0].operators: "),
        (
            '[[check.models]]\npath = "a"\ndims = { n = 0 }',
            "models[0].dims.n: 0 is less than the minimum of 1",
        ),
        ("[chekc]", "unknown key 'chekc'; did you mean 'check'?"),
        ("[check", "is not TOML"),
        ("check = 1", "'check' is not a table"),
        ("", "has no settings for 'onnxprune check'; add [check]"),
    ],
)
def test_wrong_settings(project, text, message):
    project.config(text)
    done = project.check()
    assert done.code == 2
    assert done.err.startswith("onnxprune: ")
    assert "onnxprune.toml" in done.err
    assert message in done.err
    assert done.err.count("\n") == 1


def test_nothing_to_check(project):
    done = project.check()
    assert done.code == 2
    assert "nothing to check" in done.err
    assert "[[tool.onnxprune.check.models]]" in done.err


def test_a_configuration_file_that_is_missing(project):
    done = project.check("--config", "no.toml")
    assert (done.code, done.err) == (2, "onnxprune: no.toml: no such file\n")


def test_models_without_a_configuration_are_reported_without_limits(project):
    project.model()
    done = project.check("model.onnx", "--format", "json")
    assert done.code == 0
    (model,) = done.json["models"]
    assert {f["status"] for f in model["metrics"].values()} == {"info"}
    assert "latency" not in model["metrics"]


def test_a_named_model_has_its_configured_limits(project):
    project.model("a.onnx")
    project.model("b.onnx")
    project.limits('size = "1 B"', "a.onnx")
    assert project.check("b.onnx").code == 0
    assert project.check("./a.onnx", "b.onnx").code == 1


def test_a_glob_without_a_match_is_an_error(project):
    project.limits("nodes = 3", "models/*.onnx")
    done = project.check()
    assert done.code == 2
    assert "models[0]: no file matches 'models/*.onnx'; correct the path" in done.err


def test_each_glob_must_match(project):
    project.model("a.onnx")
    project.config('[[check.models]]\npath = ["a.onnx", "modles/*.onnx"]\nnodes = 3\n')
    assert "models[0]: no file matches 'modles/*.onnx'" in project.check().err


def test_a_folder_in_place_of_a_glob(project):
    project.model("models/a.onnx")
    project.limits("nodes = 3", "models/")
    assert "write 'models/**/*.onnx'" in project.check().err


def test_an_unknown_table_of_ours(project):
    project.model()
    project.config('[[tool.onnxprune.chekc.models]]\npath = "*.onnx"\n', "pyproject.toml")
    done = project.check("model.onnx")
    assert done.code == 2
    assert "tool.onnxprune: unknown key 'chekc'; did you mean 'check'?" in done.err


def test_globs_cross_folders_but_not_hidden_ones(project):
    for name in ("a.onnx", "x/b.onnx", "x/y/c.onnx", ".venv/d.onnx", "old/e.onnx"):
        project.model(name)
    project.config('[check]\nexclude = ["old/*"]\n[[check.models]]\npath = "**/*.onnx"\nnodes = 3\n')
    assert names(project.check("--format", "json")) == ["a.onnx", "x/b.onnx", "x/y/c.onnx"]


def test_later_entries_win_limit_by_limit(project):
    project.model("a.onnx")
    project.model("b.onnx")
    project.config(
        '[[check.models]]\npath = "*.onnx"\nsize = "1 B"\nnodes = 1\n'
        '[[check.models]]\npath = "b.onnx"\nname = "bee"\nsize = "1 MB"\n'
    )
    done = project.check("--format", "json")
    a, b = done.json["models"]
    assert (a["name"], a["metrics"]["size"]["status"], a["metrics"]["nodes"]["status"]) == (
        "a.onnx",
        "fail",
        "fail",
    )
    assert (b["name"], b["metrics"]["size"]["status"], b["metrics"]["nodes"]["status"]) == (
        "bee",
        "pass",
        "fail",
    )


def test_a_name_for_many_files_keeps_them_apart(project):
    project.model("a.onnx")
    project.model("b.onnx")
    project.limits('name = "net"\nnodes = 3')
    assert names(project.check("--format", "json")) == ["net/a.onnx", "net/b.onnx"]


def test_two_models_with_one_name(project):
    project.model("a.onnx")
    project.model("b.onnx")
    project.config("".join(f'[[check.models]]\npath = "{n}.onnx"\nname = "net"\n' for n in "ab"))
    done = project.check()
    assert done.code == 2
    assert "name 'net': stands for a.onnx and b.onnx" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "--format: unknown format 'xml'; known: table, json"),
        (["--format", "json", "--format", "table"], "only one format can go to standard output"),
        (["--measure", "size"], "--measure: unknown metric 'size'"),
        (["--baseline", "a", "--baseline-ref", "b"], "give one of --baseline and --baseline-ref"),
        (["--update", "--ratchet"], "give one of --update and --ratchet"),
        (["--baseline", "no.onnx"], "--baseline no.onnx: no such file"),
        (["--baseline", "no.json"], "--baseline no.json: no such file"),
        (["--baseline", "no.json", "--ratchet"], "--baseline no.json: no such file"),
        (["--baseline", "folder"], "--baseline folder: is a directory"),
        (["--baseline-ref", ""], "--baseline-ref: is empty; name a branch"),
        (["folder"], "folder: is a directory; name an .onnx file"),
        (["--baseline", "model.onnx", "--update"], "--baseline model.onnx: can't be written to"),
        (["no.onnx"], "no.onnx: no such file"),
        (["--format", "json=no/folder.json"], "no/folder.json: its folder does not exist"),
    ],
)
def test_wrong_options(project, arguments, message):
    project.model()
    (project.root / "folder").mkdir()
    project.limits("nodes = 3")
    done = project.check(*arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
