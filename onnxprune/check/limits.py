"""Limits: what a model may measure, alone or compared with its baseline."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError
from . import quantity
from .metrics import METRICS, SETS, Metric
from .quantity import Kind

Tier = Literal["warn", "fail"]
TIERS: tuple[Tier, ...] = ("fail", "warn")
"""The graver first."""

FROM_BASELINE = "baseline"
"""In place of a list: only what the baseline uses, too."""

_PERCENT = re.compile(r"\s*(\+?)\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*")


@dataclass(frozen=True)
class Bound:
    """A range that a number must stay in, whatever it was before.

    Attributes:
        low: the least.
        high: the most.
    """

    low: float
    high: float
    needs_baseline = False

    def broken(self, value: float, growth: float | None, baseline: float | None) -> bool:  # noqa: ARG002
        """Whether a value lies outside."""
        return not self.low <= value <= self.high

    def text(self, kind: Kind) -> str:
        """The range for people."""
        low = f"≥ {quantity.text(self.low, kind)}" if self.low > 0 else ""
        high = f"≤ {quantity.text(self.high, kind)}" if self.high < math.inf else ""
        return " and ".join(filter(None, (low, high)))


@dataclass(frozen=True)
class Growth:
    """How much a number may grow from its baseline: broken only beyond both.

    Attributes:
        share: of the baseline; 0.02 for `+2%`.
        amount: in bytes, pieces or seconds.
    """

    share: float | None
    amount: float | None
    needs_baseline = True

    def broken(self, value: float, growth: float | None, baseline: float | None) -> bool:  # noqa: ARG002
        """Whether a number grew beyond all that is allowed; never without a baseline."""
        if growth is None or baseline is None or growth <= 0:
            return False
        # A tolerance far below one byte: 1.02 * 100 is 102.00000000000001.
        allowed = max(0.0 if self.share is None else self.share * baseline, self.amount or 0.0)
        return growth > allowed * (1 + 1e-12)

    def text(self, kind: Kind) -> str:
        """The growth for people."""
        share = "" if self.share is None else f"+{self.share * 100:.10g}%"
        amount = "" if self.amount is None else f"+{quantity.text(self.amount, kind)}"
        return f"max({share}, {amount})" if share and amount else share or amount


Limit = Bound | Growth


@dataclass(frozen=True)
class Allowed:
    """Names that a model may use.

    Attributes:
        patterns: globs; `None` for whatever the baseline uses.
    """

    patterns: tuple[str, ...] | None

    def outside(self, used: Iterable[str], baseline: Collection[str] | None) -> tuple[str, ...]:
        """What is used and not allowed; nothing while there is no baseline to compare with."""
        if self.patterns is None:
            return tuple(u for u in used if baseline is not None and u not in baseline)
        return tuple(u for u in used if not any(fnmatch.fnmatchcase(u, p) for p in self.patterns))

    def text(self) -> str:
        """The names for people."""
        return "as in the baseline" if self.patterns is None else ", ".join(self.patterns) or "none"


@dataclass(frozen=True)
class Rules:
    """All limits of a model.

    Attributes:
        numbers: metric -> its limits with their tiers, the graver tier first.
        sets: what names may be used, in the same way.
    """

    numbers: Mapping[str, tuple[tuple[Tier, Limit], ...]]
    sets: Mapping[str, tuple[tuple[Tier, Allowed], ...]]

    @property
    def limited(self) -> frozenset[str]:
        """The metrics that have limits."""
        return frozenset(self.numbers) | frozenset(self.sets)

    def refined(self, other: Rules) -> Rules:
        """These rules, where the other has none of its own."""
        return Rules({**self.numbers, **other.numbers}, {**self.sets, **other.sets})


NO_RULES = Rules({}, {})


def parse(entry: Mapping[str, Any], where: str) -> Rules:
    """The limits in an entry of the configuration, which has passed the schema.

    Args:
        entry: metric -> limit, as in the file; keys that are no metric are passed over.
        where: the file and the entry, for messages.

    Raises:
        InputError: a limit makes no sense.
    """
    numbers = {k: _tiers(METRICS[k], entry[k], f"{where}.{k}") for k in METRICS if k in entry}
    sets = {k: _allowed(entry[k]) for k in SETS if k in entry}
    return Rules(numbers, sets)


def _tiers(metric: Metric, given: Any, where: str) -> tuple[tuple[Tier, Limit], ...]:
    if isinstance(given, Mapping) and not given.keys().isdisjoint(TIERS):
        tiers: dict[Tier, Any] = {t: given[t] for t in TIERS if t in given}
    else:
        # Shared runners are noisy: latency stops nobody unless they ask for it by `fail`.
        tiers = {"warn" if metric.kind is Kind.SECONDS else "fail": given}
    return tuple(
        (tier, _limit(metric, one, where)) for tier, value in tiers.items() for one in _listed(value)
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _limit(metric: Metric, given: Any, where: str) -> Limit:
    if isinstance(given, Mapping):
        if "min" in given or "max" in given:
            low = quantity.parse(
                given.get("min", "0 s" if metric.kind is Kind.SECONDS else 0), metric.kind, where
            )
            high = quantity.parse(given["max"], metric.kind, where) if "max" in given else math.inf
            if low > high:
                raise InputError("min is above max", where=where)
            return Bound(low, high)
        share = _share(given["relative"], where) if "relative" in given else None
        amount = _amount(given["absolute"], metric.kind, where) if "absolute" in given else None
        return Growth(share, amount)
    if isinstance(given, str) and given.rstrip().endswith("%"):
        return Growth(_share(given, where), None)
    if isinstance(given, str) and given.lstrip().startswith("+"):
        return Growth(None, _amount(given, metric.kind, where))
    return Bound(0, quantity.parse(given, metric.kind, where))


def _share(given: str, where: str) -> float:
    found = _PERCENT.fullmatch(given)
    if found is None:
        raise InputError(f"'{given}' is not a share", where=where, hint="write '+2%'")
    if not found[1]:
        percent, total = f"{float(found[2]):g}", float(found[2]) - 100
        reading = f"'+{total:g}%' for {percent}% of the baseline" if total >= 0 else ""
        hint = f"write '+{percent}%' for a growth by {percent}%" + (f", or {reading}" if reading else "")
        raise InputError(f"'{given.strip()}' may mean two things", where=where, hint=hint)
    return float(found[2]) / 100


def _amount(given: str | float, kind: Kind, where: str) -> float:
    return quantity.parse(given.strip().removeprefix("+") if isinstance(given, str) else given, kind, where)


def _allowed(given: Any) -> tuple[tuple[Tier, Allowed], ...]:
    tiers: dict[Tier, Any] = (
        {t: given[t] for t in TIERS if t in given} if isinstance(given, Mapping) else {"fail": given}
    )
    return tuple((t, Allowed(None if names == FROM_BASELINE else tuple(names))) for t, names in tiers.items())
