"""Budgets: limits on costs and on the loss of quality, and how their text is read (`0.5`, `50%`, `8MB`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import UsageError
from .rules import Rule

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([^0-9\s]*)\s*")

_COUNT = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


Amount = float | str
"""A share of what the original has (0.5, "50%"), or an amount with its unit ("8MB")."""


@dataclass(frozen=True)
class Quantity:
    """What is limited, and how its amounts are written.

    Attributes:
        name: in words, for messages.
        option: that limits it.
        units: how many base units each spelling stands for.
        example: of an amount, for messages.
    """

    name: str
    option: str
    units: Mapping[str, float]
    example: str


def counted(*nouns: str) -> Mapping[str, float]:
    """Units of what is counted: `300 MMACs`, `2M`."""
    return MappingProxyType({prefix + noun: n for prefix, n in _COUNT.items() for noun in ("", *nouns)})


BYTES = MappingProxyType({"B": 1.0} | {p + "B": n for p, n in (_COUNT | _BINARY | {"K": 1e3}).items()})
SECONDS = MappingProxyType({"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6})


@dataclass(frozen=True)
class Limit:
    """How much of a quantity may stay: a share of what the original has, or an amount.

    Attributes:
        quantity: what is limited.
        share: in (0, 1), of the original; `None` where an amount is given.
        amount: in base units (MACs, parameters, bytes, seconds); `None` where a share is given.
    """

    quantity: Quantity
    share: float | None = None
    amount: float | None = None

    def of(self, total: float) -> float:
        """The limit in base units, for an original that has `total` of them."""
        return self.share * total if self.share is not None else self.amount or 0.0

    def times(self, factor: float) -> Limit:
        """A limit some times as large."""
        return Limit(
            self.quantity,
            None if self.share is None else self.share * factor,
            None if self.amount is None else self.amount * factor,
        )

    def __str__(self) -> str:
        """For messages: `0.5 of the latency`, or `8 MB`."""
        return self.written(self.share if self.share is not None else self.amount or 0.0)

    def written(self, value: float) -> str:
        """A value as this limit is given: a share of the original, or in base units."""
        if self.share is not None:
            return f"{value:.4g} of the {self.quantity.name}"
        units = ((unit, value / scale) for unit, scale in self.quantity.units.items())
        spelled = [f"{number:.4g} {unit}" for unit, number in units if 1 <= number < 1000]
        return min(spelled, key=len, default=f"{value:.4g} {self.quantity.name}")


@dataclass(frozen=True)
class Uniform:
    """A budget without a cost: the same share or rule for every group.

    Attributes:
        option: that asks for it: `--ratio`, `--select`, `--inbound` or `--sparsity`.
        keep: the share of the units to keep; `None` where a rule decides.
        rule: which units of a group stay, from their scores.
    """

    option: str
    keep: float | None = None
    rule: Rule | None = None


@dataclass(frozen=True)
class Budget:
    """How much may stay, and how much may be lost.

    Attributes:
        limits: on costs; all of them hold.
        uniform: the same for every group, in place of limits.
        drop: how far the metric may fall, absolutely; `None`: as far as it does.
        metric: what may fall: `accuracy` (with labels), `agreement` with the original, `module:function`, or
            a function (see `quality.metrics`); `None`: the first with labels, else the second.
    """

    limits: tuple[Limit, ...] = ()
    uniform: Uniform | None = None
    drop: float | None = None
    metric: Any = None


def limit(text: str, quantity: Quantity) -> Limit:
    """Read how much of a quantity may stay.

    Args:
        text: a share (`0.5`, `50%`), or an amount with its unit (`8MB`).
        quantity: what is limited.

    Raises:
        UsageError: it is neither, or the share is not between 0 and 1.

    Example:
        >>> size = Quantity("file size", "--size", BYTES, "8MB")
        >>> limit("8MB", size).amount, limit("50%", size).share
        (8000000.0, 0.5)
        >>> str(limit("0.25", size))
        '0.25 of the file size'
    """
    option = quantity.option
    number, unit = _parts(
        text, option, f"give a share such as 0.5 or 50%, or an amount such as {quantity.example}"
    )
    if unit in ("", "%"):
        hint = f"an amount has a unit, such as {quantity.example}"
        return Limit(quantity, share=_inside(number / 100 if unit else number, text, option, hint))
    scale = _scale(unit, quantity, text, option)
    if number <= 0:
        raise UsageError(f"'{text}' is not above zero", where=option)
    return Limit(quantity, amount=number * scale)


def share(text: str, *, option: str) -> float:
    """Read a share in (0, 1): `0.5` or `50%`.

    Raises:
        UsageError: it is not a share.
    """
    hint = "give a share such as 0.5 or 50%"
    number, unit = _parts(text, option, hint)
    if unit not in ("", "%"):
        raise UsageError(f"'{text}' is not a share", where=option, hint=hint)
    return _inside(number / 100 if unit else number, text, option, None)


def drop(text: str, *, option: str = "--max-drop") -> float:
    """Read how far a metric may fall, absolutely: `0.01`, `1%` and `1pt` are the same. In [0, 1).

    Raises:
        UsageError: it is not a drop.

    Example:
        >>> drop("1%"), drop("0.5pt"), drop("0.02")
        (0.01, 0.005, 0.02)
    """
    hint = "give a drop such as 0.01, 1% or 1pt"
    number, unit = _parts(text, option, hint)
    if unit not in ("", "%", "pt", "pts", "pp"):
        raise UsageError(f"'{text}' is not a drop", where=option, hint=hint)
    value = number / 100 if unit else number
    if value >= 1:
        raise UsageError(f"'{text}' would allow losing everything", where=option, hint=hint)
    return value


def _parts(text: str, option: str, hint: str) -> tuple[float, str]:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise UsageError(f"'{text}' is not a number with an optional unit", where=option, hint=hint)
    number = float(found[1])
    if not math.isfinite(number):
        raise UsageError(f"'{text}' is not a finite number", where=option, hint=hint)
    return number, found[2]


def _inside(value: float, text: str, option: str, hint: str | None) -> float:
    if not 0 < value < 1:
        raise UsageError(f"{text} is not between 0 and 1", where=option, hint=hint)
    return value


def _scale(unit: str, quantity: Quantity, text: str, option: str) -> float:
    """What a unit stands for; its case matters only where it distinguishes units."""
    if unit in quantity.units:
        return quantity.units[unit]
    same = {scale for spelling, scale in quantity.units.items() if spelling.lower() == unit.lower()}
    if len(same) == 1:
        return same.pop()
    known = ", ".join(quantity.units)
    raise UsageError(
        f"'{text}': '{unit}' is no unit of {quantity.name}", where=option, hint=f"there are: {known}"
    )
