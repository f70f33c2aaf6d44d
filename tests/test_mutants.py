"""The tool for mutation testing: what counts as a change, which tests meet it, and what is told of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import onnxprune.strategies

ROOT = Path(__file__).parents[1]

SOURCE = '''"""Text."""
from __future__ import annotations

FEW = 3


@some(1)
def first(a: int, b: int = FEW) -> int:
    """Text."""
    if a > (
        b
    ):
        return a + 1
    return [
        x
        for x in range(b)
    ]
'''


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


def test_what_is_not_evaluated_is_no_change():
    from mutants.positions import has_changed

    assert not has_changed(SOURCE, SOURCE.replace("a: int", "a: str").replace('"""Text."""', '"""Other."""'))
    assert not has_changed(SOURCE, SOURCE.replace("-> int", "-> str"))
    assert not has_changed(SOURCE, SOURCE.replace("a + 1", "a + +"))
    assert has_changed(SOURCE, SOURCE.replace("a + 1", "a - 1"))
    assert has_changed(SOURCE, SOURCE.replace("= FEW", "= 4"))
    assert has_changed(SOURCE, SOURCE.replace("@some(1)\n", ""))


@pytest.mark.parametrize(
    ("before", "after", "guards"),
    [
        ("zip(a, b, strict=True)", "zip(a, b, strict=False)", True),
        ("class A(Struct, frozen=True):", "class A(Struct, frozen=False):", True),
        ("@dataclass(frozen=True)", "(removed)", True),
        ("a: int, *, b: int", "a: int, /, b: int", True),
        ("f(a + 1, strict=True)", "f(a - 1, strict=True)", False),
        ("return True", "return False", False),
    ],
)
def test_guards_are_no_mutants(before, after, guards):
    from mutants.positions import is_guard

    assert is_guard(before, after) is guards


@pytest.mark.parametrize(
    ("line", "lines", "imported"),
    [
        (4, [4], True),
        (7, [7, 8], True),
        (8, [7, 8], True),
        (11, [10, 11, 12], False),
        (13, [13], False),
        (16, [14, 15, 16, 17], False),
    ],
)
def test_the_statement_of_a_line(line, lines, imported):
    from mutants.positions import statement

    assert statement(SOURCE, line) == (range(lines[0], lines[-1] + 1), imported)


def test_tests_of_a_line_are_those_that_run_its_statement():
    from mutants.coverage import Coverage

    known = Coverage()
    known.add(
        {"tests": [["slow.py::a", 5.0], ["slow.py::b", 1.0]], "lines": {"p.py": {"14": [0], "13": [1]}}}
    )
    known.add({"tests": [["quick.py::c", 0.5]], "lines": {"p.py": {"16": [0]}, "q.py": {"4": [0]}}})
    assert known.tests("p.py", SOURCE, 15) == {"quick.py::c", "slow.py::a"}
    assert known.tests("p.py", SOURCE, 13) == {"slow.py::b"}
    assert known.tests("p.py", SOURCE, 4) == {"quick.py::c", "slow.py::b", "slow.py::a"}
    assert known.tests("p.py", SOURCE, 10) == known.tests("r.py", SOURCE, 4) == set()


def test_a_case_of_each_test_comes_before_more_cases():
    from mutants.coverage import Coverage

    known = Coverage(
        {"b::f[1]": 1.0, "b::f[2]": 2.0, "b::f[3]": 3.0, "b::g": 4.0, "a::h": 0.5, "a::i[x]": 9.0}
    )
    assert known.within(known.seconds, 100) == ["b::f[1]", "b::g", "a::h", "a::i[x]", "b::f[2]", "b::f[3]"]
    assert known.within(known.seconds, 6) == ["a::h", "b::f[1]", "b::g"]
    assert known.within(known.seconds, 5) == ["a::h", "b::f[1]", "b::f[2]"], "what does not fit is left out"
    assert known.within(["a::i[x]"], 6) == ["a::i[x]"], "one at least"


def test_what_was_judged_is_told(tmp_path):
    from mutants.results import Equivalents, Outcome, append, load, page

    def outcome(key, outcome, path="p.py", **about):
        return Outcome(key, path, 3, "core/AddNot", "a | b", f"not a | b  # {key}", outcome, **about)

    file = tmp_path / "results.jsonl"
    assert load(file) == {}
    told = [outcome("1", "survived", tests=2), outcome("2", "killed"), outcome("3", "timeout", "q.py")]
    told += [outcome("1", "killed"), outcome("4", "survived", tests=1), outcome("5", "uncovered")]
    for one in told:
        append(file, one)
    found = load(file)
    assert [one.outcome for one in found.values()] == [
        *("killed", "killed", "timeout", "survived", "uncovered")
    ]
    same = tmp_path / "equivalent.json"
    same.write_text('[{"path": "p.py", "before": "a | b", "after": "not a | b  # 4", "reason": "why"}]')
    lines = page([*found.values()], Equivalents.read(same)).splitlines()
    assert "| `p.py` | 4 | 1 | 2 | 67% |" in lines
    assert "| `q.py` | 1 | 0 | 1 | 100% |" in lines
    assert "| all | 5 | 1 | 3 | 75% |" in lines
    assert any("# 5" in line and "no test runs it" in line for line in lines)


def test_equivalent_mutants_say_why():
    from mutants.results import Equivalents

    reasons = Equivalents.read(ROOT / "tools" / "mutants" / "equivalent.json").reasons
    for (path, before, _), reason in reasons.items():
        assert len(reason) > 10
        assert before in (ROOT / path).read_text("utf-8"), "the line has changed: look at it again"


def test_a_module_is_imported_from_another_text():
    from mutants.forks import Replaced

    path = "onnxprune/strategies/schedule.py"
    text = (ROOT / path).read_text("utf-8").replace('"cubic": 3', '"cubic": 2')
    spec = Replaced(ROOT, path, text).find_spec(
        "onnxprune.strategies.schedule", onnxprune.strategies.__path__
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.schedule(0.0, 2, "cubic") == (0.25, 0.0)
    assert Replaced(ROOT, path, text).find_spec("onnxprune.strategies.bisection", None) is None


def test_mutants_are_drawn_by_a_seed():
    pytest.importorskip("cosmic_ray")
    from mutants.positions import drawn

    first, again, other = (list(drawn({"p.py": SOURCE}, seed)) for seed in (0, 0, 1))
    assert [m.key for m in first] == [m.key for m in again] != [m.key for m in other]
    assert {m.line for m in first} == {4, 7, 10, 13}
    assert not any(m.before.startswith("from") for m in first)
    assert len({m.key for m in first}) == len(first)
