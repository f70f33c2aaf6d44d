"""The documents are true: commands and examples run, links lead somewhere, what is quoted is in the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from onnxprune import compare
from onnxprune.cli import run
from onnxprune.cli.app import COMMANDS
from onnxprune.criteria import CRITERIA

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")])
README = (ROOT / "README.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Arguments of each `onnxprune` command in shell blocks; what stands before `onnxprune` is installing."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [shlex.split(line.split("onnxprune ", 1)[1]) for line in lines if "onnxprune " in line]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder like that of the repository, to write into."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def expanded(arguments: list[str], folder: Path) -> list[str]:
    """Arguments as a shell expands `*`, where it finds something."""
    found = (
        [str(p.relative_to(folder)) for p in sorted(folder.glob(a))] if "*.onnx" in a else [a]
        for a in arguments
    )
    return [a for several in found for a in several]


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a printed table by their first cell."""
    rows = [
        [c.strip() for c in line.strip("│").split("│")] for line in table.splitlines() if line.startswith("│")
    ]
    return {row[0]: row[1:] for row in rows}


def number(text: str) -> float:
    """A printed number without its unit: 13.5 M."""
    value, _, prefix = text.rstrip("%").partition(" ")
    return float(value) * {"k": 1e3, "M": 1e6}.get(prefix, 1.0)


def test_the_first_command_prints_what_the_readme_shows(folder, capsys):
    """Latency apart, which is another on each machine; its arithmetic may change other figures a little."""
    (first,) = [c for c in commands(README) if "digits-small.onnx" in c]
    assert run(first) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("The pruned model is in digits-small.onnx")
    shown, found = (cells(text.partition("Verdict")[2]) for text in (blocks(README, "text")[0], out))
    assert list(shown) == list(found)
    for name in ("parameters", "MACs", "bytes", "accuracy on 2500"):
        before, after, _ = found[name]
        assert shown[name][0] == before
        assert number(shown[name][1]) == pytest.approx(number(after), rel=0.05)
    assert number(found["MACs"][1]) <= 0.5 * number(found["MACs"][0]) * 1.01, "figures are rounded"
    assert number(found["accuracy on 2500"][1]) > 98.5
    assert found["surgery error"][-1] == "exact"


def test_the_other_commands_run_in_their_order(folder):
    others = [c for c in commands(README) if "digits-small.onnx" not in c]
    assert {c[0] for c in others} == {"inspect", "prune", "apply", "validate", "check", "diff"}
    for arguments in others:
        assert run(expanded(arguments, folder)) == 0, arguments
    assert (folder / "again.onnx").read_bytes() == (folder / "small.onnx").read_bytes()


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_python_examples_run(name, folder):
    exec("\n".join(blocks((ROOT / name).read_text("utf-8"), "python")), {})
    assert (folder / "small.onnx").exists()


@pytest.mark.parametrize("name", ["adding-a-criterion", "adding-a-reduction"])
@pytest.mark.usefixtures("folder")
def test_worked_examples_run(name):
    code = "\n".join(blocks((ROOT / f"docs/{name}.md").read_text("utf-8"), "python"))
    exec(compile(code, name, "exec", dont_inherit=True), {"__name__": name})


def test_ci_runs_the_tests_as_the_readme_does():
    (line,) = [x for block in blocks(README, "sh") for x in block.splitlines() if "pytest" in x]
    (arguments,) = re.findall(r"-m pytest (.*)", line)
    assert f"python -m pytest {arguments}" in (ROOT / ".ci/run").read_text("utf-8")


MODELS = re.findall(
    r"^\| `(digits-.*\.onnx)` \| (.*) \|", (ROOT / "models/README.md").read_text("utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(("name", "figures"), MODELS, ids=[name for name, _ in MODELS])
def test_models_are_as_their_table_says(name, figures):
    path = ROOT / "models" / name
    verdict = compare(path, path, labels=ROOT / "models/digits-heldout.npz", batch=250, measure_latency=False)
    size = verdict.before
    shown = [f"{n:,}" for n in (size.params, size.macs, path.stat().st_size)]
    assert [*shown, f"{verdict.accuracy[0].value:.2%}"] == figures.split(" | ")
    assert verdict.accuracy[0].value > 0.98


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = document.read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        assert not path or (document.parent / path).exists(), target
        assert path or anchor in headings, target


def test_architecture_names_files_that_are_there():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    for name in re.findall(r"`((?:onnxprune|tests|tools)/[\w/]+(?:\.py|/))`", text):
        assert (ROOT / name).exists(), name


def test_architecture_quotes_code_that_is_there():
    def plain(code: str) -> str:
        return " ".join(code.split())

    sources = plain(
        "\n".join(p.read_text("utf-8") for d in ("onnxprune", "tests") for p in (ROOT / d).rglob("*.py"))
    )
    quoted = blocks((ROOT / "docs/architecture.md").read_text("utf-8"), "python")
    assert quoted
    for code in quoted:
        for part in [code] if code.startswith("def ") else code.splitlines():
            assert plain(part) in sources, part


def test_commands_and_criteria_are_all_documented():
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    assert {name for name in COMMANDS if f"`{name}`" not in text} == set()
    rows = re.findall(r"^\| `([\w-]+)` \| (yes|no) \|", text, re.M)
    assert [name for name, _ in rows] == list(CRITERIA)
    for name, needs in rows:
        assert (needs == "yes") == bool(CRITERIA[name].needs), name
