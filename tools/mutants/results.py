"""What came of mutants: lines of JSON, one for each, and the table of documentation made from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pages import table

KILLED = ("killed", "timeout")


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant.

    Attributes:
        key: of the mutant.
        path: of its file.
        line: that is changed.
        operator: of cosmic-ray.
        before: the line as it was.
        after: the line as it is.
        outcome: `killed` by a test, `timeout`, `survived`, or `uncovered`: no test runs it.
        by: the first test that fails.
        tests: how many run the line.
        ran: how many of these there was time for.
    """

    key: str
    path: str
    line: int
    operator: str
    before: str
    after: str
    outcome: str
    by: str = ""
    tests: int = 0
    ran: int = 0


def load(file: Path) -> dict[str, Outcome]:
    """Key -> outcome, the last one of each; none where there is no such file."""
    if not file.exists():
        return {}
    found = (Outcome(**json.loads(line)) for line in file.read_text("utf-8").splitlines())
    return {one.key: one for one in found}


def append(file: Path, outcome: Outcome) -> None:
    """Add an outcome to a file."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Equivalents:
    """Mutants that no test can see.

    Attributes:
        reasons: (path, before, after) -> why.
    """

    reasons: dict[tuple[str, str, str], str]

    @classmethod
    def read(cls, file: Path) -> Equivalents:
        """Read them from a file."""
        entries = json.loads(file.read_text("utf-8"))
        return cls({(e["path"], e["before"], e["after"]): e["reason"] for e in entries})

    def reason(self, outcome: Outcome) -> str:
        """Why nothing can be seen of it; empty where something can."""
        return self.reasons.get((outcome.path, outcome.before, outcome.after), "")


def page(outcomes: Sequence[Outcome], equivalents: Equivalents) -> str:
    """The table of all modules, and what has survived, in Markdown."""
    modules = sorted({one.path for one in outcomes})
    rows = [_row(f"`{m}`", [o for o in outcomes if o.path == m], equivalents) for m in modules]
    rows.append(_row("all", outcomes, equivalents))
    survivors = [o for o in outcomes if o.outcome not in KILLED]
    known = [o for o in survivors if equivalents.reason(o)]
    others = [o for o in survivors if not equivalents.reason(o)]
    return "\n\n".join(
        [
            table(("module", "mutants", "equivalent", "killed", "share"), rows),
            f"Survivors that a test could see: {len(others)}.",
            _changes(others),
            f"Survivors that are equivalent: {len(known)}. `tools/mutants/equivalent.json` has the reasons.",
            _changes(known),
        ]
    ).replace("\n\n\n\n", "\n\n")


def _row(name: str, outcomes: Sequence[Outcome], equivalents: Equivalents) -> tuple[str, ...]:
    killed = sum(o.outcome in KILLED for o in outcomes)
    same = sum(o.outcome not in KILLED and bool(equivalents.reason(o)) for o in outcomes)
    told = len(outcomes) - same
    return name, str(len(outcomes)), str(same), str(killed), f"{100 * killed / told:.0f}%" if told else ""


def _changes(outcomes: Iterable[Outcome]) -> str:
    rows = [
        (f"`{o.path}:{o.line}`", _code(o.before), _code(o.after), "" if o.tests else "no test runs it")
        for o in sorted(outcomes, key=lambda o: (o.path, o.line))
    ]
    return table(("place", "before", "after", ""), rows, left=4) if rows else ""


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"
