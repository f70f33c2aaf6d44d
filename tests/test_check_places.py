"""The gate in places that aren't simple: submodules, subfolders, shallow clones, several runs at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import onnx
import pytest
from faults import in_child
from projects import Project, network

from onnxprune.check.baseline import loads, update
from onnxprune.check.measure import measure, open_model
from onnxprune.check.selection import matches
from onnxprune.check.settings import read

GROWS = 'size = "+2%"'


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    return Project(root, capsys)


@pytest.fixture
def committed(project):
    project.model("a.onnx")
    project.limits(GROWS)
    project.commit()
    return project


# ---------------------------------------------------------------- submodules


@pytest.fixture
def nested(project, tmp_path, capsys):
    """A project whose models are in a submodule, with one commit of each."""
    inner = Project(tmp_path / "models", capsys)
    inner.model("deep/a.onnx")
    inner.commit()
    project.limits(GROWS, "models/**/*.onnx")
    project.git("init", "-q", "-b", "main")
    project.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.root), "models")
    project.commit()
    return project


def grown(project):
    """The model grows, in a commit of the submodule and one of the project."""
    project.model("models/deep/a.onnx", width=16)
    Project(project.root / "models", None).commit()
    project.commit()


def test_a_model_in_a_submodule_is_compared_with_what_it_was(nested):
    assert nested.check("--baseline-ref", "HEAD").code == 0
    grown(nested)
    done = nested.check("--baseline-ref", "HEAD~1")
    assert done.code == 1
    assert "size is" in done.out
    assert nested.check("--baseline-ref", "HEAD").code == 0
    assert nested.run("diff", "HEAD~1:models/deep/a.onnx", "models/deep/a.onnx").out.startswith(
        "different graph"
    )


def test_a_model_that_was_renamed_in_a_submodule(nested):
    (nested.root / "models/deep/a.onnx").rename(nested.root / "models/deep/b.onnx")
    Project(nested.root / "models", None).commit()
    assert "renamed from 'a.onnx'" in nested.check("--baseline-ref", "HEAD").out


def test_a_submodule_that_is_new_has_no_baseline(nested):
    grown(nested)
    nested.git("rm", "-q", "--cached", "models")
    nested.git("commit", "-q", "-m", "without")
    nested.git("add", "models")
    nested.git("commit", "-q", "-m", "again")
    done = nested.check("--baseline-ref", "HEAD~1")
    assert done.code == 0
    assert "no baseline for 'models/deep/a.onnx' in HEAD~1" in done.out


def test_a_commit_of_a_submodule_that_is_not_in_the_clone(nested):
    grown(nested)
    shutil.rmtree(nested.root / "models")
    url = str(nested.root.parent / "models")
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", f"file://{url}", "models"], cwd=nested.root, check=True
    )
    inner = Project(nested.root / "models", None)
    inner.model("deep/a.onnx", width=17)
    inner.git("checkout", "-q", "--orphan", "other")
    inner.commit()
    for name in ("main",):
        inner.git("branch", "-q", "-D", name)
    inner.git("remote", "remove", "origin")
    inner.git("reflog", "expire", "--expire=now", "--all")
    inner.git("gc", "-q", "--prune=now")
    done = nested.check("--baseline-ref", "HEAD")
    assert done.code == 2
    assert "of submodule 'models' isn't in this clone; run 'git -C models fetch origin" in done.err


def test_a_repository_within_that_is_no_submodule(committed):
    (committed.root / "vendor").mkdir()
    inner = Project(committed.root / "vendor", None)
    inner.model("b.onnx")
    inner.commit()
    committed.config(f'[[check.models]]\npath = "**/*.onnx"\n{GROWS}\n')
    (committed.root / ".gitignore").write_text("vendor\n")
    done = committed.check("--baseline-ref", "HEAD")
    assert done.code == 2
    assert "belongs to the repository in 'vendor', which is no submodule" in done.err


# ---------------------------------------------------------------- what was deleted


def test_a_model_that_was_deleted_is_told(committed):
    committed.model("b.onnx")
    committed.model("other/c.onnx")
    committed.commit()
    (committed.root / "b.onnx").unlink()
    (committed.root / "other/c.onnx").unlink()
    done = committed.check("--baseline-ref", "HEAD", "--format", "markdown")
    assert done.code == 0
    assert "'b.onnx' was deleted since HEAD" in done.out
    assert "c.onnx" not in done.out, "no entry means it"


@pytest.mark.parametrize(
    ("pattern", "means", "not_means"),
    [
        ("*.onnx", ["a.onnx"], ["x/a.onnx", "a.onnx.data"]),
        ("**/*.onnx", ["a.onnx", "x/y/a.onnx"], ["a.txt"]),
        ("m/**", ["m/a", "m/x/a"], ["n/a"]),
        ("m?.onnx", ["ma.onnx"], ["m.onnx", "m/.onnx"]),
        ("[ab].onnx", ["a.onnx"], ["c.onnx", "[ab].onnx"]),
        ("[!ab].onnx", ["c.onnx"], ["a.onnx"]),
        ("a+(b).onnx", ["a+(b).onnx"], ["aab.onnx"]),
    ],
)
def test_patterns_mean_files_that_are_gone_as_they_mean_others(project, pattern, means, not_means):
    project.limits(GROWS, pattern)
    settings = read(project.root / "onnxprune.toml", project.root)
    for name in (*means, *not_means):
        assert matches(settings, project.root.resolve() / name) == (name in means), name
        file = project.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = {p.relative_to(project.root).as_posix() for p in project.root.glob(pattern) if p.is_file()}
    assert found >= set(means) or "**" in pattern  # pathlib's ** is of folders only
    assert not found & set(not_means)


# ---------------------------------------------------------------- limits, names, revisions


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        (
            '"102%"',
            "may mean two things; write '+102%' for a growth by 102%, or '+2%' for 102% of the baseline",
        ),
        ('"5%"', "'5%' may mean two things; write '+5%' for a growth by 5%"),
        ('{ relative = "100%" }', "or '+0%' for 100% of the baseline"),
        ('{ warn = "1%", fail = "+5%" }', "'1%' may mean two things"),
    ],
)
def test_a_percentage_without_a_sign_is_refused(project, limit, hint):
    project.model()
    project.limits(f"size = {limit}")
    done = project.check()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert hint in done.err


def test_a_model_that_is_named_needs_no_other_entry(project):
    project.model("a.onnx")
    project.config(f'[[check.models]]\npath = "a.onnx"\n{GROWS}\n[[check.models]]\npath = "gone.onnx"\n')
    assert project.check("a.onnx").code == 0
    done = project.check()
    assert done.code == 2
    assert "no file matches 'gone.onnx'" in done.err


@pytest.mark.parametrize(("name", "hint"), [("HEAD~3", "see 'git log'"), ("main@{5}", "see 'git log'")])
def test_revisions_that_no_remote_can_be_asked_for(committed, name, hint):
    committed.git("remote", "add", "origin", "https://example.org/x.git")
    done = committed.check("--baseline-ref", name)
    assert done.code == 2
    assert hint in done.err
    assert "git fetch" not in done.err


def test_a_revision_beyond_a_shallow_clone(committed, tmp_path, monkeypatch, capsys):
    committed.model("a.onnx", width=9)
    committed.commit()
    url = f"file://{committed.root}"
    subprocess.run(["git", "clone", "-q", "--depth=1", url, str(tmp_path / "clone")], check=True)
    monkeypatch.chdir(tmp_path / "clone")
    done = Project(tmp_path / "clone", capsys).check("--baseline-ref", "HEAD~1")
    assert done.code == 2
    assert "run 'git fetch --unshallow' (GitHub: 'fetch-depth: 0'" in done.err


# ---------------------------------------------------------------- reports


def test_places_are_those_in_the_repository(project, monkeypatch):
    project.model("sub/a.onnx")
    project.config('[[check.models]]\npath = "a.onnx"\nsize = "1 B"\n', "sub/onnxprune.toml")
    project.commit()
    monkeypatch.chdir(project.root / "sub")
    assert "::error file=sub/a.onnx,title=a.onnx%3A size::" in project.check("--format", "github").out
    (run,) = project.check("--format", "sarif").json["runs"]
    (result,) = run["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "sub/a.onnx"
    assert run["invocations"] == [{"executionSuccessful": True}]
    assert project.check("--format", "json").json["models"][0]["path"] == "a.onnx"


def test_a_check_that_could_not_be_made_says_so_in_every_report(project):
    (project.root / "bad.onnx").write_text("no model\n")
    kinds = ("json", "junit", "sarif", "markdown")
    for kind in kinds:
        (project.root / kind).write_text("an older one that says passed")
    done = project.check("bad.onnx", *(f"--format={kind}={kind}" for kind in kinds))
    assert (done.code, done.out) == (2, "")
    message = done.err.removeprefix("onnxprune: ").rstrip("\n")
    assert json.loads((project.root / "json").read_text())["message"] == message
    assert json.loads((project.root / "json").read_text())["status"] == "error"
    (run,) = json.loads((project.root / "sarif").read_text())["runs"]
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == message
    root = ElementTree.fromstring((project.root / "junit").read_bytes())
    assert root.get("errors") == "1"
    assert root.find("testsuite/testcase/error").get("message") == message
    assert "could not be made" in (project.root / "markdown").read_text()
    assert project.check("bad.onnx", "--format", "junit").out.startswith("<?xml")


def test_a_report_to_standard_output_has_two_names(project):
    project.model("a.onnx")
    assert project.check("a.onnx", "--format", "json=-").json["status"] == "info"
    assert not (project.root / "-").exists()


# ---------------------------------------------------------------- the baseline file


def test_two_updates_at_once_lose_nothing(project):
    """Each process writes another model, as jobs that share a folder do."""
    models = [project.model(f"m{k}.onnx", width=8 + k) for k in range(8)]
    records = {m.name: measure(open_model(m, {})) for m in models}
    file = project.root / "baseline.json"

    def job(name):
        for _ in range(5):
            update(file, records.keys(), {name: records[name]})

    with ThreadPoolExecutor(len(records)) as pool:
        assert set(pool.map(lambda name: in_child(lambda: job(name)), records)) == {0}
    assert loads(file.read_bytes(), "baseline").keys() == records.keys()
    assert [p.name for p in project.root.iterdir() if p.suffix == ".json"] == ["baseline.json"]


@pytest.mark.parametrize("way", ["path", "link"])
def test_a_configuration_writes_nothing_outside_its_repository(committed, tmp_path, way):
    outside = tmp_path / "outside.json"
    if way == "path":
        committed.config(
            f'[check]\nbaseline = "../outside.json"\n[[check.models]]\npath = "a.onnx"\n{GROWS}\n'
        )
    else:
        (committed.root / "onnxprune-baseline.json").symlink_to(outside)
    done = committed.check("--update")
    assert done.code == 2
    assert "lies outside" in done.err
    assert not outside.exists()
    assert committed.check("--update", "--baseline", str(outside)).code == 0
    assert outside.exists()


def test_a_link_to_a_baseline_within_the_repository_stays_one(committed):
    (committed.root / "shared").mkdir()
    (committed.root / "onnxprune-baseline.json").symlink_to("shared/baseline.json")
    assert committed.check("--update").code == 0
    assert (committed.root / "onnxprune-baseline.json").is_symlink()
    assert (committed.root / "shared/baseline.json").is_file()


@pytest.mark.parametrize("kind", ["config", "baseline"])
def test_a_pipe_is_not_waited_for(committed, kind):
    name = "onnxprune.toml" if kind == "config" else "onnxprune-baseline.json"
    (committed.root / name).unlink(missing_ok=True)
    os.mkfifo(committed.root / name)
    done = committed.check(*(["--config", name] if kind == "config" else []))
    assert done.code == 2
    assert f"{name}: is a device, not a file" in done.err


def test_a_mark_at_the_start_of_a_configuration(committed):
    file = committed.root / "onnxprune.toml"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert committed.check().code == 0


@pytest.mark.parametrize(
    "content",
    ["x = " + "[" * 20_000, "x = " + "1" * 5000, '[[check.models]]\npath = "a\\u0000b.onnx"\n'],
    ids=["deep", "long", "nul"],
)
def test_configurations_that_cannot_be_read(committed, content):
    committed.config(content)
    done = committed.check()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("onnxprune: ")


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1" + "0" * 5000, "true", "1e999", "[" * 20_000])
def test_baselines_of_impossible_numbers(committed, value):
    text = f'{{"version": 1, "models": {{"a.onnx": {{"size": {value}}}}}}}'
    (committed.root / "onnxprune-baseline.json").write_text(text)
    done = committed.check()
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_a_working_directory_that_is_gone(committed, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = committed.check()
    assert (done.code, done.err) == (2, "onnxprune: the working directory is gone\n")


def test_models_that_onnx_runtime_refuses_do_not_pass(project):
    model = network()
    model.graph.node[1].input[0] = "nowhere"
    onnx.save(model, "dangling.onnx")
    model = network()
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    onnx.save(model, "short.onnx")
    project.model("outside.onnx", external=True)
    data = project.root / "outside.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    for name, message in (
        ("dangling", "which nothing makes"),
        ("short", "holds 860 bytes"),
        ("outside", "truncated"),
    ):
        done = project.check(f"{name}.onnx")
        assert done.code == 2
        assert message in done.err
