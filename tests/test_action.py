"""The GitHub Action and the pre-commit hook, as far as a machine without GitHub can run them.

The steps of `action.yml` run as they are written there, against a clone of a local repository and an API on
the loopback interface. Only the installation is replaced, but for one test.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from projects import Project

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
MARKER = "<!-- onnxprune check -->"


@dataclass
class GitHub:
    """The part of GitHub's API that a comment needs."""

    url: str = ""
    writable: bool = True
    user: str | None = None  # of a personal token
    comments: list[dict] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    trouble: str = ""

    def add(self, body: str, kind: str = "Bot") -> dict:
        number = len(self.comments) + 1
        comment = {
            "id": number,
            "body": body,
            "user": {"type": kind, "login": "me" if kind == "User" else "bot"},
            "html_url": f"{self.url}/c/{number}",
        }
        self.comments.append(comment)
        return comment

    def answer(self, method: str, path: str, token: str, body: dict) -> tuple[int, object]:
        self.calls.append(method)
        split = urlsplit(path)
        if token != "Bearer secret":
            return 401, {}
        if method == "GET" and split.path == "/repos/me/net/issues/7/comments":
            query = parse_qs(split.query)
            size, page = int(query["per_page"][0]), int(query["page"][0])
            return 200, self.comments[size * (page - 1) : size * page]
        if (method, path) == ("GET", "/user"):
            return (200, {"login": self.user}) if self.user else (403, {})
        if not self.writable:
            return 403, {"message": "Resource not accessible by integration"}
        if method == "POST" and split.path == "/repos/me/net/issues/7/comments":
            return 201, self.add(body["body"], "User" if self.user else "Bot")
        found = re.fullmatch(r"/repos/me/net/issues/comments/(\d+)", split.path)
        if method == "PATCH" and found:
            comment = self.comments[int(found[1]) - 1]
            comment["body"] = body["body"]
            return 200, comment
        return 404, {}


@pytest.fixture
def github():
    state = GitHub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            code, content = state.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            data = json.dumps(content).encode()
            if state.trouble == "drop":
                self.close_connection = True
                return
            if state.trouble in ("page", "object"):
                code, data = 200, b"<html>" if state.trouble == "page" else b'{"message": "hm"}'
            self.send_response(code)
            self.send_header("Content-Length", str(len(data) + 50 * (state.trouble == "short")))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = answer

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Job:
    """What a workflow's job has: a clone, files for outputs, and the inputs of the action."""

    clone: Path
    temp: Path
    environment: dict[str, str]
    steps: dict[str, dict[str, str]]
    log: str = ""
    failed: bool = False

    def run(self, **inputs: str) -> Job:
        """Run the steps of the action, as a composite action runs."""
        values = {key: str(given.get("default", "")) for key, given in ACTION["inputs"].items()}
        values |= {"token": "secret"} | {key.replace("_", "-"): value for key, value in inputs.items()}
        for step in ACTION["runs"]["steps"]:
            if step["id"] in self.steps or not self._wanted(step, values):
                continue
            outputs = self.temp / f"{step['id']}.out"
            outputs.touch()
            own = {key: self._filled(value, values) for key, value in step.get("env", {}).items()}
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
                cwd=self.clone / self._filled(step.get("working-directory", "."), values),
                env={**os.environ, **self.environment, **own, "GITHUB_OUTPUT": str(outputs)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            self.log += done.stdout
            self.failed |= done.returncode != 0
            self.steps[step["id"]] = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        return self

    def _wanted(self, step, values):
        condition = step.get("if", "success()")
        if condition == "success()":
            return not self.failed
        assert condition == "always() && inputs.comment == 'true' && steps.check.outputs.markdown != ''"
        return values["comment"] == "true" and self.steps.get("check", {}).get("markdown", "") != ""

    def _filled(self, text, values):
        def value(match):
            kind, *rest = match[1].split(".")
            return values[rest[0]] if kind == "inputs" else self.steps[rest[0]].get(rest[2], "")

        return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", value, text)

    @property
    def summary(self) -> str:
        return Path(self.environment["GITHUB_STEP_SUMMARY"]).read_text()


@pytest.fixture
def project(tmp_path, monkeypatch, capsys):
    root = tmp_path / "origin"
    root.mkdir()
    monkeypatch.chdir(root)
    project = Project(root, capsys)
    project.model("models/a.onnx")
    project.limits('params = "+2%"\nnodes = 10', "models/*.onnx")
    project.commit()
    project.git("switch", "-q", "-c", "change")
    return project


@pytest.fixture
def job(project, tmp_path, github):
    """Make a job for the branch `change`, checked out as shallow as actions/checkout does."""

    def make(event: dict | None = None) -> Job:
        temp = tmp_path / "runner"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        clone = temp / "clone"
        command = ["git", "clone", "-q", "--depth=1", "--branch=change", f"file://{project.root}", str(clone)]
        subprocess.run(command, check=True)
        (temp / "summary.md").touch()
        (temp / "event.json").write_text(
            json.dumps({"pull_request": {"number": 7}} if event is None else event)
        )
        program = temp / "onnxprune"
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m onnxprune "$@"\n')
        program.chmod(0o755)
        environment = {
            "RUNNER_TEMP": str(temp),
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(temp / "summary.md"),
            "GITHUB_EVENT_PATH": str(temp / "event.json"),
            "GITHUB_REPOSITORY": "me/net",
            "GITHUB_API_URL": github.url,
            "no_proxy": "127.0.0.1",
        }
        installed = {"python": sys.executable, "onnxprune": str(program)}
        return Job(clone, temp, environment, {"install": installed})

    return make


def test_every_input_is_used_and_every_script_exists():
    text = (ROOT / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    scripts = re.findall(r"\$GITHUB_ACTION_PATH/([\w./]+)", text)
    assert len(scripts) == 3
    assert all((ROOT / script).is_file() for script in scripts)
    # Inputs reach the scripts as variables only: in the text of a script they would be run.
    assert not any("${{" in step["run"] for step in ACTION["runs"]["steps"])


@pytest.mark.parametrize("script", ["install.sh", "check.sh"])
def test_scripts_are_sound_bash(script):
    subprocess.run(["bash", "-n", str(ROOT / "tools/action" / script)], check=True)


def test_a_pull_request_that_passes(job, github):
    done = job().run(baseline_ref="origin/main")
    assert not done.failed, done.log
    assert done.steps["check"]["passed"] == "true"
    assert json.loads(Path(done.steps["check"]["json"]).read_text())["models"][0]["baseline"] == "origin/main"
    (comment,) = github.comments
    assert comment["body"].startswith(f"{MARKER}\n### ✅")
    assert done.summary == comment["body"]


def test_a_pull_request_that_grows_fails_and_still_comments(project, job, github):
    project.model("models/a.onnx", width=9)
    project.commit()
    done = job().run(baseline_ref="origin/main")
    assert done.failed
    assert done.steps["check"]["passed"] == "false"
    assert "::error file=models/a.onnx,title=models/a.onnx%3A parameters::" in done.log
    assert "❌" in github.comments[0]["body"]


def test_one_comment_is_updated(project, job, github):
    for k in range(150):
        github.add(f"comment {k}")
    github.add(f"{MARKER}\n> quoted by a person", "User")
    job().run()
    assert len(github.comments) == 152
    project.model("models/a.onnx", extra=20)
    project.commit()
    github.calls.clear()
    assert job().run().failed
    assert len(github.comments) == 152
    assert github.calls == ["GET", "GET", "GET", "PATCH"]
    assert "❌" in github.comments[-1]["body"]


def test_a_personal_token_has_one_comment_too(job, github):
    github.user = "me"
    github.add(f"{MARKER} of a bot")
    job().run()
    job().run()
    assert [c["user"]["login"] for c in github.comments] == ["bot", "me"]


def test_two_comments_by_two_names(job, github):
    job().run(comment_id="a")
    job().run(comment_id="b")
    job().run(comment_id="a")
    assert [c["body"].splitlines()[0] for c in github.comments] == [
        "<!-- onnxprune check a -->",
        "<!-- onnxprune check b -->",
    ]


def test_a_fork_without_the_right_to_write(job, github):
    github.writable = False
    done = job().run()
    assert not done.failed
    assert "::warning title=onnxprune check::no comment: the token may not write" in done.log
    assert MARKER in done.summary


@pytest.mark.parametrize(
    ("event", "inputs", "said"),
    [
        (None, {"token": ""}, "::notice title=onnxprune check::no comment: there is no token"),
        (None, {"token": "wrong"}, "no comment: the token isn't valid"),
        ({"ref": "refs/heads/main"}, {}, "no comment: this isn't a pull request"),
        (None, {"comment": "false"}, ""),
    ],
)
def test_no_comment(job, github, event, inputs, said):
    done = job(event).run(**inputs)
    assert not done.failed, done.log
    assert said in done.log
    assert github.comments == []


def test_github_cannot_be_reached(job):
    made = job()
    made.environment["GITHUB_API_URL"] = "http://127.0.0.1:9"
    done = made.run()
    assert not done.failed
    assert "no comment: GitHub can't be asked" in done.log


@pytest.mark.parametrize("trouble", ["drop", "short", "page", "object"])
def test_a_comment_is_a_courtesy_whatever_github_answers(job, github, trouble):
    github.trouble = trouble
    done = job().run()
    assert not done.failed
    assert "::warning title=onnxprune check::no comment: GitHub can't be asked (" in done.log


def test_a_comment_of_an_account_that_was_deleted(job, github):
    github.add(f"{MARKER}\nold")["user"] = None
    done = job().run()
    assert not done.failed
    assert len(github.comments) == 2


def test_a_wrong_configuration_is_annotated(project, job, github):
    project.limits('sise = "1 MB"', "models/*.onnx")
    project.commit()
    done = job().run()
    assert done.failed
    assert done.steps["check"]["passed"] == "false"
    line = "::error title=onnxprune check::onnxprune: "
    assert any(text.startswith(line) and "unknown key 'sise'" in text for text in done.log.splitlines())
    (comment,) = github.comments
    assert "could not be made" in comment["body"], "an older comment that says passed must not stay"


def test_a_revision_that_does_not_exist(job):
    done = job().run(baseline_ref="origin/nowhere")
    assert done.failed
    assert "origin/nowhere: no such revision in this shallow clone" in done.log


def test_other_inputs(project, job):
    project.model("models/with space.onnx", width=9)
    (project.root / "sub").mkdir()
    project.config('[[check.models]]\npath = "../models/a.onnx"\nnodes = 1\n', "sub/limits.toml")
    project.commit()
    done = job().run(
        working_directory="sub", config="limits.toml", sarif="out.sarif", models="../models/a.onnx"
    )
    assert done.failed
    (run,) = json.loads((done.clone / "sub/out.sarif").read_text())["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["nodes"]


def test_inputs_are_not_run(job):
    done = job().run(
        baseline_ref="origin/$(touch hacked)", models="$(touch hacked)", comment_id="`touch hacked`"
    )
    assert done.failed
    assert not list(done.temp.rglob("hacked"))


# ---------------------------------------------------------------- pre-commit


def test_the_hook_sees_what_matters():
    (hook,) = HOOKS
    assert hook["entry"] == "onnxprune check"
    for name in (
        "a.onnx",
        "models/b.onnx.data",
        "pyproject.toml",
        "sub/onnxprune.toml",
        "onnxprune-baseline.json",
    ):
        assert re.search(hook["files"], name), name
    for name in ("main.py", "my-pyproject.toml", "onnx/readme.md"):
        assert not re.search(hook["files"], name), name


def test_the_hook_in_pre_commit(project, tmp_path, monkeypatch):
    """Pre-commit runs our own definition, but for the environment, which it would install."""
    pytest.importorskip("pre_commit")
    program = tmp_path / "onnxprune"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m onnxprune "$@"\n')
    program.chmod(0o755)
    (hook,) = HOOKS
    hook = {**hook, "language": "system", "entry": f"{program} check"}
    (project.root / ".pre-commit-config.yaml").write_text(
        yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]})
    )
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))

    def commit():
        project.git("add", "-A")
        command = [sys.executable, "-m", "pre_commit", "run"]
        return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)

    project.check("--update")
    assert commit().returncode == 0
    project.model("models/a.onnx", width=9)
    done = commit()
    assert done.returncode == 1
    assert "parameters is 288" in done.stdout
    project.check("--update")
    assert commit().returncode == 0
    project.git("commit", "-qm", "accepted")
    (project.root / "main.py").touch()
    assert "no files to check" in commit().stdout


@pytest.mark.real
def test_the_installation(job):
    """Installs the package, so it needs the package index and a minute."""
    made = job()
    made.steps.clear()
    done = made.run()
    assert not done.failed, done.log
    assert Path(done.steps["install"]["onnxprune"]).is_relative_to(made.temp)


@pytest.mark.real
def test_the_hook_as_pre_commit_installs_it(project, tmp_path, monkeypatch):
    """Installs the package from a commit of this repository, so it needs the package index and a minute."""
    pytest.importorskip("pre_commit")
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    project.model("models/a.onnx", extra=20)
    project.git("add", "-A")
    command = [sys.executable, "-m", "pre_commit", "try-repo", str(ROOT), "onnxprune-check", "--all-files"]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nodes is 23; the limit is ≤ 10" in done.stdout
