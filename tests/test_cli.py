"""The command line as a whole: exit codes, and one line on stderr for whatever is wrong."""

from __future__ import annotations

import pytest
from projects import Project


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path, capsys)


def refused(done, code=2):
    """Whether a command said one line about what is wrong, and nothing else."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("onnxprune: ")
    assert done.err.count("\n") == 1
    return done.err


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc"], "No such command 'chekc'"),
        (["check", "--nope"], "No such option: --nope; see 'onnxprune check --help'"),
        (["check", "--format"], "'--format' requires an argument"),
        (["diff", "a.onnx"], "Missing argument"),
        (["prune", "a.onnx", "-o", "b.onnx", "--ratio", "half"], "Invalid value for '--ratio'"),
    ],
)
def test_wrong_usage(project, arguments, message):
    assert message in refused(project.run(*arguments))


def test_help(project):
    done = project.run("--help")
    assert done.code == 0
    assert "onnxprune [OPTIONS] COMMAND" in done.out
    bare = project.run()
    assert (bare.code, bare.err) == (2, "")
    assert "onnxprune [OPTIONS] COMMAND" in bare.out
