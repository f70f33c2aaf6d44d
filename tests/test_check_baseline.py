"""Baselines: committed, another file, a git revision; and what happens as models come, change and go."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess

import pytest
from projects import Project

FILE = "onnxprune-baseline.json"


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for key, value in {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}.items():
        monkeypatch.setenv(key, value)
    return Project(tmp_path, capsys)


def record(project):
    return json.loads((project.root / FILE).read_text())["models"]


# ---------------------------------------------------------------- a committed file


def test_a_missing_baseline_warns_once_and_says_what_to_do(project):
    project.model("a.onnx")
    project.model("b.onnx")
    project.limits('size = "+2%"\nparams = "+2%"')
    done = project.check("--format", "json")
    assert done.code == 0
    (warning,) = done.json["warnings"]
    assert f"there is no baseline {FILE}" in warning
    assert "onnxprune check --update" in warning
    assert done.json["models"][0]["metrics"]["size"]["status"] == "skip"


def test_absolute_limits_need_no_baseline(project):
    project.model()
    project.limits('size = "1 MB"')
    assert project.check("--format", "json").json["warnings"] == []


def test_growth_fails_until_the_baseline_is_updated(project):
    project.model()
    project.limits('params = "+2%"')
    assert project.check("--update").code == 0
    assert project.check().code == 0
    project.model(width=9)
    done = project.check()
    assert done.code == 1
    assert "parameters is 288, +32 (+12.5%) against the baseline; the limit is +2%" in done.out
    done = project.check("--update")
    assert done.code == 0
    assert f"wrote {FILE}: commit it" in done.out
    assert project.check().code == 0
    assert f"{FILE} is up to date" in project.check("--update").out


def test_update_does_not_hide_a_broken_absolute_limit(project):
    project.model()
    project.limits("nodes = 2")
    assert project.check("--update").code == 1


def test_warnings_pass(project):
    project.model()
    project.limits('params = { warn = "+1%", fail = "+50%" }')
    project.check("--update")
    project.model(width=9)
    done = project.check("--format", "json")
    assert (done.code, done.json["status"]) == (0, "warn")
    project.model(width=16)
    assert project.check().code == 1


def test_an_improvement_is_reported_and_ratcheted(project):
    project.model(width=16)
    project.limits('params = "+2%"\nnodes = "+1"')
    project.check("--update")
    project.model(width=8, extra=1)  # fewer parameters, one node more
    found = project.findings()
    assert (found["params"]["improved"], found["nodes"]["improved"]) == (True, False)
    (note,) = project.check("--format", "json").json["notes"]
    assert "values are better than in onnxprune-baseline.json: 'onnxprune check --ratchet'" in note
    assert project.check("--ratchet").code == 0
    assert (record(project)["model.onnx"]["params"], record(project)["model.onnx"]["nodes"]) == (256, 3)
    project.model(width=16)
    assert project.check("--ratchet").code == 1
    assert record(project)["model.onnx"]["params"] == 256


def test_a_new_model_warns_and_the_others_are_compared(project):
    project.model("a.onnx")
    project.limits('params = "+2%"')
    project.check("--update")
    project.model("a.onnx", width=9)
    project.model("b.onnx", width=10)
    done = project.check("--format", "json")
    assert done.code == 1
    assert [m["status"] for m in done.json["models"]] == ["fail", "skip"]
    assert done.json["warnings"] == [
        f"no baseline for 'b.onnx' in {FILE}: growth isn't limited yet; "
        "'onnxprune check --update' writes it, then commit it"
    ]


def test_a_deleted_model_is_mentioned_and_forgotten(project):
    project.model("a.onnx")
    project.model("b.onnx", width=9)
    project.limits('params = "+2%"')
    project.check("--update")
    (project.root / "b.onnx").unlink()
    done = project.check("--format", "json")
    assert (done.code, len(done.json["notes"])) == (0, 1)
    assert "'b.onnx' is in the baseline, and its model is gone" in done.json["notes"][0]
    assert "removed 'b.onnx'" in project.check("--update").out
    assert list(record(project)) == ["a.onnx"]


def test_a_renamed_model_keeps_its_baseline(project):
    project.model("a.onnx")
    project.limits('size = "+2%"\nparams = "+0"')
    project.check("--update")
    (project.root / "a.onnx").rename(project.root / "c.onnx")
    done = project.check("--format", "json")
    (model,) = done.json["models"]
    assert model["notes"][-1] == "taken for 'a.onnx' under a new name"
    assert (model["metrics"]["params"]["status"], done.json["notes"], done.json["warnings"]) == (
        "pass",
        [],
        [],
    )


def test_a_named_model_may_change_its_file(project):
    project.model("net-v1.onnx")
    project.limits('name = "net"\nparams = "+0"', "net-v*.onnx")
    project.check("--update")
    (project.root / "net-v1.onnx").unlink()
    project.model("net-v2.onnx", width=9)
    assert project.check().code == 1


def test_updating_one_model_leaves_the_others(project):
    project.model("a.onnx")
    project.model("b.onnx")
    project.limits('params = "+2%"')
    project.check("--update")
    project.model("a.onnx", width=9)
    project.model("b.onnx", width=9)
    project.check("a.onnx", "--update")
    assert [record(project)[n]["params"] for n in ("a.onnx", "b.onnx")] == [288, 256]


def test_operators_as_in_the_baseline(project):
    project.model()
    project.limits('operators = "baseline"\ndomains = ["ai.onnx"]')
    project.check("--update")
    assert project.check().code == 0
    content = record(project)
    content["model.onnx"]["operators"].remove("Relu")
    (project.root / FILE).write_text(json.dumps({"version": 1, "models": content}))
    done = project.check()
    assert done.code == 1
    assert "operators not allowed: Relu" in done.out


def test_latency_is_never_recorded(project):
    project.model()
    project.limits('latency = { fail = "+900%" }\nsize = "+1%"')
    assert project.check("--update").code == 0
    assert "latency" not in record(project)["model.onnx"]
    found = project.findings()["latency"]
    assert found["status"] == "skip"
    assert "--baseline-ref" in found["message"]
    shutil.copy("model.onnx", "old.bin")
    found = project.findings("--baseline", "old.bin")["latency"]
    assert found["status"] == "pass"
    assert found["baseline"] > 0


def test_an_absolute_latency_fails_only_on_demand(project):
    project.model()
    project.limits('latency = "1 us"')
    assert project.check("--format", "json").json["status"] == "warn"
    project.limits('latency = { fail = "1 us" }')
    assert project.check().code == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("<<<<<<< HEAD\n", "solve the conflict"),
        ("[]", "is not a baseline"),
        ('{"version": 2, "models": {}}', "is a baseline of version 2, not 1"),
        ('{"models": {}}', "is not a baseline (it has no 'version')"),
        ('{"version": 1, "models": {"a": 3}}', "is not a baseline (it has another structure)"),
        ('{"version": 1, "models": {"a": {"size": "big"}}}', "is not a baseline ('size' is 'big')"),
        ('{"version": 1, "models": {"a": {"size": NaN}}}', "is not a baseline ('size' is nan)"),
        (
            '{"version": 1, "models": {"a": {"operators": "Conv"}}}',
            "is not a baseline ('operators' is 'Conv')",
        ),
    ],
)
def test_a_broken_baseline_file(project, content, message):
    project.model()
    project.limits('size = "+2%"')
    (project.root / FILE).write_text(content)
    done = project.check()
    assert done.code == 2
    assert done.err.startswith(f"onnxprune: {FILE}: ")
    assert message in done.err
    assert done.err.count("\n") == 1


# ---------------------------------------------------------------- another file


def test_another_model_as_the_baseline(project):
    project.model("old.bin")
    project.model("new.onnx", width=9)
    project.limits('params = "+2%"', "new.onnx")
    done = project.check("--baseline", "old.bin")
    assert done.code == 1
    project.model("second.onnx")
    done = project.check("new.onnx", "second.onnx", "--baseline", "old.bin")
    assert done.code == 2
    assert "is one model, and 2 are checked" in done.err


def test_another_baseline_file(project):
    project.model()
    project.limits('params = "+2%"')
    project.check("--update", "--baseline", "other.json")
    assert not (project.root / FILE).exists()
    project.model(width=9)
    assert project.check("--baseline", "other.json").code == 1


# ---------------------------------------------------------------- a git revision


def test_a_revision_is_read_without_a_checkout(project):
    project.model("models/a.onnx")
    project.limits('params = "+2%"', "models/*.onnx")
    project.commit()
    project.model("models/a.onnx", width=9)
    before = {p: p.stat().st_mtime_ns for p in project.root.rglob("*.onnx")}
    done = project.check("--baseline-ref", "main", "--format", "json")
    assert done.code == 1
    assert done.json["models"][0]["baseline"] == "main"
    assert done.json["models"][0]["metrics"]["params"] == {
        "value": 288, "baseline": 256, "limit": "+2%", "status": "fail", "improved": False,
        "message": "parameters is 288, +32 (+12.5%) against the baseline; the limit is +2%",
    }  # fmt: skip
    assert before == {p: p.stat().st_mtime_ns for p in project.root.rglob("*.onnx")}
    assert project.git("status", "--porcelain").split() == ["M", "models/a.onnx"]


def test_a_revision_may_be_configured(project):
    project.model()
    project.config('[check]\nbaseline-ref = "main"\n[[check.models]]\npath = "*.onnx"\nparams = "+0"\n')
    project.commit()
    assert project.check().code == 0
    project.model(width=9)
    assert project.check().code == 1


def test_external_data_of_a_revision(project):
    project.model(external=True)
    project.limits('size = "+0"\ndead-channels = "+0"')
    project.commit()
    project.model(external=True, dead=1)
    found = project.findings("--baseline-ref", "HEAD")
    assert (found["size"]["status"], found["dead-channels"]["baseline"]) == ("pass", 0)
    assert found["dead-channels"]["status"] == "fail"


def test_growth_is_accepted_by_the_baseline_file_in_the_same_commit(project):
    project.model()
    project.limits('params = "+2%"')
    project.check("--update")
    project.commit()
    project.model(width=9)
    assert project.check("--baseline-ref", "HEAD").code == 1
    project.check("--update")
    done = project.check("--baseline-ref", "HEAD", "--format", "json")
    assert done.code == 0
    assert "an accepted change" in done.json["models"][0]["notes"][-1]
    project.model(width=10)  # more than was accepted
    assert project.check("--baseline-ref", "HEAD").code == 1


def test_new_and_renamed_models_of_a_revision(project):
    project.model("a.onnx", width=64)
    project.limits('params = "+2%"')
    project.commit()
    project.git("mv", "a.onnx", "c.onnx")
    project.model("d.onnx", width=3)
    done = project.check("--baseline-ref", "HEAD", "--format", "json")
    renamed, new = done.json["models"]
    assert renamed["notes"][-1] == "renamed from 'a.onnx'"
    assert renamed["metrics"]["params"]["status"] == "pass"
    assert new["baseline"] is None
    assert "no baseline for 'd.onnx' in HEAD" in done.json["warnings"][0]


def in_lfs(project, path):
    """Put a file into git as git-lfs does: a pointer as the blob, the file itself in the local store."""
    data = path.read_bytes()
    oid = hashlib.sha256(data).hexdigest()
    stored = project.root / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    stored.parent.mkdir(parents=True)
    stored.write_bytes(data)
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n")
    project.git("add", path.name)
    path.write_bytes(data)
    return stored


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_lfs_files_of_a_revision(project, name):
    project.git("init", "-q", "-b", "main")
    path = project.model(external=True)
    project.limits('size = "+0"\ndead-channels = "+0"')  # the latter reads weights
    project.git("add", "-A")
    stored = in_lfs(project, path.with_name(name))
    project.git("commit", "-qm", "models")
    found = project.findings("--baseline-ref", "main")
    assert (found["size"]["status"], found["dead-channels"]["status"]) == ("pass", "pass")
    stored.unlink()
    done = project.check("--baseline-ref", "main")
    assert done.code == 2
    assert f"main:{name}: is a git-lfs pointer to {path.with_name(name).stat().st_size} bytes" in done.err
    assert "run 'git lfs fetch origin " in done.err


def test_a_shallow_clone_lacks_the_revision(project, monkeypatch):
    project.model()
    project.limits('size = "+0"')
    project.commit()
    project.git("branch", "base")
    project.model(width=9)
    project.commit()
    clone = project.root.parent / f"{project.root.name}-clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{project.root}", clone], check=True)
    monkeypatch.chdir(clone)
    done = project.check("--baseline-ref", "origin/base")
    assert done.code == 2
    assert "origin/base: no such revision in this shallow clone" in done.err
    fetch = "git fetch --depth=1 origin base:refs/remotes/origin/base"
    assert fetch in done.err
    subprocess.run(fetch.split(), cwd=clone, check=True, capture_output=True)
    assert project.check("--baseline-ref", "origin/base").code == 1


@pytest.mark.parametrize("name", ["nonsense", "--help", "HEAD~5"])
def test_a_revision_that_does_not_exist(project, name):
    project.model()
    project.limits('size = "+0"')
    project.commit()
    done = project.check(f"--baseline-ref={name}")
    assert done.code == 2
    assert f"{name}: no such revision" in done.err


def test_a_hook_of_git_has_an_environment_of_its_own(project, monkeypatch):
    """With GIT_DIR alone, git takes any folder for the top of the work tree."""
    project.model("sub/a.onnx")
    project.config('[[check.models]]\npath = "a.onnx"\nparams = "+0"\n', "sub/onnxprune.toml")
    project.commit()
    project.model("sub/a.onnx", width=9)
    monkeypatch.setenv("GIT_DIR", str(project.root / ".git"))
    assert project.check("--config", "sub/onnxprune.toml", "--baseline-ref", "main").code == 1


def test_a_linked_model_of_a_revision(project):
    project.model("store/a.onnx")
    (project.root / "a.onnx").symlink_to("store/a.onnx")
    (project.root / "b.onnx").symlink_to("/nowhere")
    project.limits('params = "+0"', "a.onnx")
    project.commit()
    project.model("store/a.onnx", width=9)
    assert project.check("--baseline-ref", "main").code == 1
    project.model("c.onnx").replace(project.root / "b.onnx")
    done = project.check("b.onnx", "--baseline-ref", "main")
    assert done.code == 2
    assert "main:b.onnx: is a link that leads nowhere" in done.err


def test_a_model_whose_contents_this_clone_lacks(project):
    """Not the same as a new model, which would pass."""
    project.model()
    project.limits('params = "+0"')
    project.commit()
    blob = project.git("rev-parse", "main:model.onnx").strip()
    (project.root / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    project.model(width=9)
    done = project.check("--baseline-ref", "main")
    assert done.code == 2
    assert "main:model.onnx: isn't in this clone; run 'git fetch'" in done.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_somebody_else(project):
    """As in a container that runs as root on a mounted work tree."""
    project.model()
    project.limits('size = "+0"')
    project.commit()
    os.chown(project.root, 4321, 4321)
    os.chown(project.root / ".git", 4321, 4321)
    done = project.check("--baseline-ref", "main")
    assert done.code == 2
    assert "dubious ownership" in done.err
    assert "run 'git config --global --add safe.directory" in done.err


def test_no_repository(project):
    project.model()
    project.limits('size = "+0"')
    done = project.check("--baseline-ref", "main")
    assert done.code == 2
    assert "not a git repository" in done.err
    assert done.err.count("\n") == 1


def test_no_git(project, monkeypatch):
    project.model()
    project.limits('size = "+0"')
    monkeypatch.setenv("PATH", "")
    done = project.check("--baseline-ref", "main")
    assert done.code == 2
    assert "git isn't installed" in done.err


def test_a_model_that_was_broken_in_the_revision(project):
    (project.root / "model.onnx").write_bytes(b"nothing")
    project.limits('size = "+0"')
    project.commit()
    project.model()
    done = project.check("--baseline-ref", "main")
    assert done.code == 2
    assert done.err == "onnxprune: main:model.onnx: is not an ONNX model, or is truncated\n"


def test_a_repository_below_the_project_of_another_name(project, monkeypatch):
    """The configuration lies in a folder of the repository, and the command runs in another."""
    (project.root / "sub").mkdir()
    project.model("sub/a.onnx")
    project.config('[[check.models]]\npath = "a.onnx"\nparams = "+0"\n', "sub/onnxprune.toml")
    project.commit()
    project.model("sub/a.onnx", width=9)
    done = project.check("--config", "sub/onnxprune.toml", "--baseline-ref", "main", "--format", "json")
    assert done.code == 1
    assert done.json["models"][0]["path"] == "sub/a.onnx"
