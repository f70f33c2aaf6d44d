"""Quantities as people write them: `12 MB`, `3.2 GMACs`, `5 ms`, and back."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from ..errors import InputError


class Kind(enum.Enum):
    """What a number counts: it decides which units make sense."""

    BYTES = "bytes"
    COUNT = "count"
    SECONDS = "seconds"


_DECIMAL = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_SCALES: Mapping[Kind, Mapping[str, float]] = MappingProxyType(
    {
        Kind.BYTES: {f"{p}b": s for p, s in _DECIMAL.items()}
        | {f"{p}ib": 1024.0**k for k, p in enumerate("kmgt", 1)}
        | {"": 1.0},
        # `b` is a billion here: people count parameters so.
        Kind.COUNT: _DECIMAL | {"b": 1e9},
        Kind.SECONDS: {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6},
    }
)
_NOUNS = re.compile(r"(macs?|params?|parameters?|nodes?|channels?)$")
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]*(?:\s+[a-z]+)?)\s*", re.IGNORECASE)
_EXAMPLES = {Kind.BYTES: "'12 MB' or '64 KiB'", Kind.COUNT: "'3.2 M' or '3.2 GMACs'", Kind.SECONDS: "'5 ms'"}


def parse(value: str | float, kind: Kind, where: str) -> float:
    """The number that a quantity stands for, in bytes, pieces or seconds.

    Args:
        value: a number, or text with a unit; `kB` is 1000 bytes, `KiB` 1024; case doesn't matter.
        kind: what it counts.
        where: the option it was given for, for messages.

    Raises:
        InputError: it is no such quantity.

    Example:
        >>> parse("12 MB", Kind.BYTES, "size"), parse("3.2 GMACs", Kind.COUNT, "macs")
        (12000000.0, 3200000000.0)
    """
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        unit = found[2].lower() if found else ""
        if kind is Kind.COUNT:
            unit = _NOUNS.sub("", unit).strip()
        scale = _SCALES[kind].get(unit)
        if found is None or scale is None:
            raise InputError(f"'{value}' is not a quantity", where=where, hint=f"write {_EXAMPLES[kind]}")
        value = float(found[1]) * scale
    elif kind is Kind.SECONDS:
        raise InputError(f"{value:g} has no unit", where=where, hint=f"write {_EXAMPLES[kind]}")
    if not math.isfinite(value) or value < 0:
        raise InputError(f"{value:g} is not a quantity", where=where, hint=f"write {_EXAMPLES[kind]}")
    return float(value)


def text(value: float, kind: Kind) -> str:
    """A quantity for people, to four digits: `1.038 MB`."""
    if kind is Kind.SECONDS:
        return f"{value * 1e3:.4g} ms" if abs(value) >= 1e-3 or not value else f"{value * 1e6:.4g} µs"
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # Four digits of a count are exact without a prefix.
        if abs(value) >= scale * (10 if kind is Kind.COUNT and scale == 1e3 else 1):
            return f"{value / scale:.4g} {prefix}{'B' if kind is Kind.BYTES else ''}"
    return f"{value:.0f}{' B' if kind is Kind.BYTES else ''}"


def change(value: float, baseline: float, kind: Kind) -> str:
    """How a quantity changed, for people.

    Example:
        >>> change(1_038_000, 1_000_000, Kind.BYTES), change(5, 5, Kind.COUNT)
        ('+38 kB (+3.8%)', '±0')
    """
    delta = value - baseline
    if delta == 0:
        return "±0"
    sign = "+" if delta > 0 else "−"
    share = f" ({delta / baseline:+.1%})".replace("-", "−") if baseline else ""
    return f"{sign}{text(abs(delta), kind)}{share}"
