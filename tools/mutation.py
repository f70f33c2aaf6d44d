"""Mutation testing of what decides: would a test fail if a line said something else?

    pip install -e '.[test,mutation]'
    python tools/mutation.py record [tests/test_budget.py ...]   # which tests run which line, once
    python tools/mutation.py run [--count 400] [--seed 0]        # go on where the last run ended
    python tools/mutation.py again                               # survivors once more, after new tests
    python tools/mutation.py page                                # the table of docs/testing.md

Mutants are drawn from allocation, selection, repair, proof, strategies and plans. The operators are those of
cosmic-ray: they are a library, from a syntax tree to a changed text. mutmut copies a project, puts all
mutants of a function into it side by side, and runs the tests by itself: it can't be had in parts.

Each mutant is a fork of a process that has loaded all libraries and not the package; the changed text is
imported in place of the file, so nothing is written to the working tree. It meets the tests that run the
changed statement, quick ones first, up to the first that fails. Time limits are of the processor, three times
what the tests took when they were recorded; who exceeds them is counted as killed.

Recordings and results are in build/mutation. Record again what was changed, before `again`.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from itertools import islice
from pathlib import Path

from mutants import coverage, forks, positions
from mutants.positions import is_guard
from mutants.results import KILLED, Equivalents, Outcome, append, load, page
from pages import replaced

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "mutation"
EQUIVALENT = Path(__file__).parent / "mutants" / "equivalent.json"
PAGE = ROOT / "docs" / "testing.md"

ROOMS = (
    "onnxprune/strategies/*.py",
    "onnxprune/contracts/selection.py",
    "onnxprune/contracts/budget.py",
    "onnxprune/contracts/plan.py",
    "onnxprune/criteria/base.py",
    "onnxprune/repair/*.py",
    "onnxprune/proof/*.py",
    "onnxprune/plan/*.py",
    "onnxprune/reductions/*/plan.py",
)

TESTS = (
    *("allocate", "approximate", "branch_pruning", "budget", "compare", "compensation", "components"),
    *(
        "computed_weights",
        "criteria",
        "descent",
        "exchange",
        "fidelity",
        "inbound",
        "linear_layers",
        "makers",
    ),
    *("limits", "masked", "pipeline", "pipeline_budgets", "plan", "prefix", "projection", "promise"),
    *("proved", "quality", "recurrent", "refused", "repair", "repair_expectation", "repair_fold"),
    *("repair_integers", "repair_merging", "repair_nonlinear", "repair_regression", "repair_reuse"),
    *("scores", "search", "selection", "sensitivity", "spaces", "steps", "stepwise", "taylor", "traps"),
    *("unread", "unstructured", "weights", "weights_of", "widths"),
)
"""Files of tests that are about these rooms."""

_SPARE = 6
"""Seconds that a mutant may take beside its tests, to import the package and to collect."""


def record(tests: list[str]) -> None:
    """Find out which tests run which line."""
    files = list(positions.texts(ROOT, ROOMS))
    folder = BUILD / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    for name in tests or [f"tests/test_{name}.py" for name in TESTS]:
        found = forks.run(partial(coverage.recorded, ROOT, files, name), seconds=3600)
        if found is None:
            raise SystemExit(f"{name} could not be recorded")
        (folder / f"{Path(name).stem}.json").write_text(json.dumps(found), "utf-8")
        print(f"{name}: {len(found['tests'])} tests, {sum(s for _, s in found['tests']):.1f} s", flush=True)


def judged(mutant: positions.Mutant, known: coverage.Coverage, budget: float) -> Outcome:
    """What comes of a mutant, with tests of so many seconds."""
    source = (ROOT / mutant.path).read_text("utf-8")
    tests = known.tests(mutant.path, source, mutant.line)
    told = mutant.key, mutant.path, mutant.line, mutant.operator, mutant.before, mutant.after
    if not tests:
        return Outcome(*told, "uncovered")
    chosen = known.within(tests, budget)
    limit = _SPARE + 3 * sum(known.seconds[name] for name in chosen)
    found = forks.run(partial(forks.tested, ROOT, mutant.path, mutant.source, chosen), limit)
    if found is None:
        outcome, by = "timeout", ""
    else:
        outcome, by = ("survived" if found["code"] == 0 else "killed"), found["by"] or f"exit {found['code']}"
        if found["code"] and not found["by"]:
            _require_sane(mutant.path, source, chosen, _SPARE + limit)
    return Outcome(*told, outcome, by, len(tests), len(chosen))


def _require_sane(path: str, source: str, tests: list[str], seconds: float) -> None:
    """Make sure that it is the mutant which keeps tests from being collected, and not the installation.

    Raises:
        SystemExit: they can't be run without a mutant, either.
    """
    found = forks.run(partial(forks.tested, ROOT, path, source, tests), seconds)
    if found is None or found["code"]:
        raise SystemExit(f"tests of {path} fail without a mutant: record them again")


def run(count: int, seed: int, budget: float, *, again: bool) -> None:
    """Judge the mutants that were not judged, or those that survived and that a test could see."""
    file = BUILD / "results.jsonl"
    done, known = load(file), coverage.read(BUILD / "coverage")
    same = Equivalents.read(EQUIVALENT)
    for number, mutant in enumerate(islice(positions.drawn(positions.texts(ROOT, ROOMS), seed), count), 1):
        before = done.get(mutant.key)
        if again != (before is not None and before.outcome not in KILLED) or (before and not again):
            continue
        if before is not None and same.reason(before):
            continue
        outcome = judged(mutant, known, budget)
        append(file, outcome)
        print(f"{number:4} {outcome.outcome:9} {outcome.path}:{outcome.line} {outcome.by}", flush=True)


def write() -> None:
    """Write the table of all that was judged."""
    found = [one for one in load(BUILD / "results.jsonl").values() if not is_guard(one.before, one.after)]
    replaced(PAGE, "mutation", page(found, Equivalents.read(EQUIVALENT)))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=("record", "run", "again", "page"))
    parser.add_argument("tests", nargs="*", help="files of tests to record; by default those of these rooms")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=40, help="seconds of tests for each mutant")
    given = parser.parse_args()
    if given.action == "page":
        write()
        return
    forks.warm()
    if given.action == "record":
        record(given.tests)
    else:
        run(given.count, given.seed, given.budget, again=given.action == "again")


if __name__ == "__main__":
    main()
