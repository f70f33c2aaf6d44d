"""The verdict: every measured value against its limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import quantity
from .baseline import Before
from .limits import Rules, Tier
from .measure import Measurement
from .metrics import METRICS, SETS, Metric
from .selection import Model, absolute
from .speed import Speed

Status = Literal["fail", "warn", "skip", "pass", "info"]
"""`skip`: the limit needs a baseline and there is none; `info`: there is no limit."""

SEVERITY: tuple[Status, ...] = ("fail", "warn", "skip", "pass", "info")
"""The gravest first."""


_RUNNABLE = "a baseline file holds no times, as machines differ; give --baseline-ref or --baseline MODEL"


@dataclass(frozen=True)
class Finding:
    """A metric of a model, and what became of its limits.

    Attributes:
        metric: its key.
        title: its name for people.
        value: in bytes, pieces or seconds; what is used, sorted, for operators and domains.
        baseline: the same before; `None` if unknown.
        shown: the value for people.
        change: against the baseline, for people; empty without one.
        limit: all limits for people; empty if there are none.
        status: the gravest outcome.
        message: what is wrong and how far, if anything is.
        better: whether the value improved on its baseline.
    """

    metric: str
    title: str
    value: float | tuple[str, ...]
    baseline: float | tuple[str, ...] | None
    shown: str
    change: str
    limit: str
    status: Status
    message: str = ""
    better: bool = False


@dataclass(frozen=True)
class Outcome:
    """All findings of a model.

    Attributes:
        model: the model.
        measured: what it measures.
        findings: in the order of the metrics.
        source: where the baseline is from; `None` if there is none.
        notes: assumptions, renames.
        key: under which a baseline file has the baseline.
    """

    model: Model
    measured: Measurement
    findings: tuple[Finding, ...]
    source: str | None
    notes: tuple[str, ...]
    key: str | None = None

    @property
    def status(self) -> Status:
        """The gravest of its findings."""
        return gravest(f.status for f in self.findings)


@dataclass(frozen=True)
class Report:
    """Everything that a check found.

    Attributes:
        outcomes: by model.
        warnings: of the check as a whole, such as a baseline that is missing.
        notes: of the check as a whole: models that are gone, what was written.
        root: the top of the repository that the check ran in, if it ran in one.
    """

    outcomes: tuple[Outcome, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    root: Path | None = None

    def place(self, model: Model) -> str:
        """Where a model is, as pages that show files of a repository call it."""
        file = Path.cwd() / model.path
        found = absolute(file)
        inside = self.root is not None and found.is_relative_to(self.root)
        return (found.relative_to(self.root) if inside and self.root else model.path).as_posix()

    @property
    def status(self) -> Status:
        """The gravest of all."""
        return gravest([*(o.status for o in self.outcomes), *(["warn"] if self.warnings else [])])  # type: ignore[list-item]

    @property
    def failed(self) -> bool:
        """Whether a limit of the tier `fail` is broken."""
        return self.status == "fail"


def gravest(states: Iterable[Status]) -> Status:
    """The gravest of some states; `info` for none."""
    return min(states, key=SEVERITY.index, default="info")


def judge(model: Model, now: Measurement, before: Before | None, speed: Speed | None) -> Outcome:
    """Compare a model with its limits.

    Args:
        model: the model.
        now: what it measures.
        before: its baseline, if it has one.
        speed: its latency, if it was measured.
    """
    old = before.measurement if before else None
    findings = []
    for key, metric in METRICS.items():
        value, baseline, growth = now.numbers.get(key), old.numbers.get(key) if old else None, None
        if key == "latency" and speed is not None:
            value, baseline, growth = speed.seconds, speed.baseline, speed.growth
        if value is None:
            continue
        if growth is None and baseline is not None:
            growth = value - baseline
        findings.append(_number(metric, value, baseline, growth, model.rules))
    findings += [_set(key, now.sets[key], old.sets.get(key) if old else None, model.rules) for key in SETS]
    notes = [*now.notes, *([before.note] if before and before.note else [])]
    source, record = (before.source, before.key) if before else (None, None)
    return Outcome(model, now, tuple(findings), source, tuple(notes), record)


def _number(
    metric: Metric, value: float, baseline: float | None, growth: float | None, rules: Rules
) -> Finding:
    limits = rules.numbers.get(metric.key, ())
    shown = quantity.text(value, metric.kind)
    change = "" if baseline is None else quantity.change(value, baseline, metric.kind)
    broken = [(tier, limit) for tier, limit in limits if limit.broken(value, growth, baseline)]
    message = ""
    if broken:
        texts = " and ".join(dict.fromkeys(limit.text(metric.kind) for _, limit in broken))
        grew = f", {change} against the baseline" if change and change != "±0" else ""
        message = f"{metric.title} is {shown}{grew}; the limit is {texts}"
    status = _status(
        [tier for tier, _ in broken], [limit.needs_baseline for _, limit in limits], baseline is None
    )
    if status == "skip":
        message = "needs a baseline, and there is none"
        if not metric.recorded:
            message = f"needs a baseline that can be run, and there is none: {_RUNNABLE}"
    text = "; ".join(_tiered(tier, limit.text(metric.kind)) for tier, limit in limits)
    # Of times, the growth is a lower end: that it is negative says nothing.
    better = metric.recorded and baseline is not None and value < baseline
    return Finding(metric.key, metric.title, value, baseline, shown, change, text, status, message, better)


def _set(key: str, used: tuple[str, ...], before: tuple[str, ...] | None, rules: Rules) -> Finding:
    limits = rules.sets.get(key, ())
    outside = [(tier, limit.outside(used, before)) for tier, limit in limits]
    broken = [(tier, names) for tier, names in outside if names]
    names = ", ".join(dict.fromkeys(name for _, some in broken for name in some))
    status = _status(
        [tier for tier, _ in broken], [limit.patterns is None for _, limit in limits], before is None
    )
    message = f"{SETS[key]} not allowed: {names}" if broken else ""
    if status == "skip":
        message = "needs a baseline, and there is none"
    new = [f"+{name}" for name in used if before is not None and name not in before]
    lost = [f"−{name}" for name in before or () if name not in used]
    change = " ".join(new + lost) or ("" if before is None else "±0")
    text = "; ".join(_tiered(tier, limit.text()) for tier, limit in limits)
    better = bool(lost) and not new
    return Finding(key, SETS[key], used, before, str(len(used)), change, text, status, message, better)


def _status(broken: list[Tier], comparing: list[bool], alone: bool) -> Status:
    if broken:
        return "fail" if "fail" in broken else "warn"
    if not comparing:
        return "info"
    return "skip" if alone and any(comparing) else "pass"


def _tiered(tier: Tier, text: str) -> str:
    return text if tier == "fail" else f"warn: {text}"
