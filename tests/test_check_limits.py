"""Limits: how they are written, and exactly where they break."""

from __future__ import annotations

import pytest

from onnxprune.check import limits, quantity
from onnxprune.check.limits import Allowed, Bound, Growth
from onnxprune.check.quantity import Kind
from onnxprune.errors import InputError


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("12 MB", Kind.BYTES, 12e6),
        ("12mb", Kind.BYTES, 12e6),
        ("64 kB", Kind.BYTES, 64_000),
        ("64 KiB", Kind.BYTES, 65_536),
        ("1.5 GiB", Kind.BYTES, 1.5 * 2**30),
        ("100 B", Kind.BYTES, 100),
        (100, Kind.BYTES, 100),
        ("3.2 GMACs", Kind.COUNT, 3.2e9),
        ("3.2 G", Kind.COUNT, 3.2e9),
        ("7 B", Kind.COUNT, 7e9),
        ("25M params", Kind.COUNT, 25e6),
        ("25 Mparams", Kind.COUNT, 25e6),
        ("40 nodes", Kind.COUNT, 40),
        ("5 ms", Kind.SECONDS, 5e-3),
        ("250 us", Kind.SECONDS, 250e-6),
    ],
)
def test_quantities(text, kind, value):
    assert quantity.parse(text, kind, "x") == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12 XB", Kind.BYTES),
        ("MB", Kind.BYTES),
        ("-5 MB", Kind.BYTES),
        ("1,5 MB", Kind.BYTES),
        ("5", Kind.SECONDS),
        (5, Kind.SECONDS),
        (-1, Kind.COUNT),
        (float("nan"), Kind.COUNT),
        ("5 ms", Kind.BYTES),
        ("1e6", Kind.COUNT),
    ],
)
def test_what_is_no_quantity(text, kind):
    with pytest.raises(InputError, match=r"^file: .*; write '"):
        quantity.parse(text, kind, "file")


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, Kind.BYTES, "0 B"),
        (999, Kind.BYTES, "999 B"),
        (1000, Kind.BYTES, "1 kB"),
        (1_053_785, Kind.BYTES, "1.054 MB"),
        (9_999, Kind.COUNT, "9999"),
        (10_000, Kind.COUNT, "10 k"),
        (3.2e9, Kind.COUNT, "3.2 G"),
        (0.0123, Kind.SECONDS, "12.3 ms"),
        (250e-6, Kind.SECONDS, "250 µs"),
    ],
)
def test_quantities_for_people(value, kind, text):
    assert quantity.text(value, kind) == text


def parsed(value, metric="size"):
    return limits.parse({metric: value}, "file").numbers[metric]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("12 MB", [("fail", Bound(0, 12e6))]),
        (12_000_000, [("fail", Bound(0, 12e6))]),
        ("+2%", [("fail", Growth(0.02, None))]),
        ("+ 2 %", [("fail", Growth(0.02, None))]),
        ("+64 kB", [("fail", Growth(None, 64e3))]),
        ({"relative": "+2%", "absolute": "64 kB"}, [("fail", Growth(0.02, 64e3))]),
        ({"relative": "+2%", "absolute": "+64 kB"}, [("fail", Growth(0.02, 64e3))]),
        (["12 MB", "+2%"], [("fail", Bound(0, 12e6)), ("fail", Growth(0.02, None))]),
        ({"warn": "+1%", "fail": ["12 MB"]}, [("fail", Bound(0, 12e6)), ("warn", Growth(0.01, None))]),
        ({"min": 10, "max": "1 kB"}, [("fail", Bound(10, 1000))]),
    ],
)
def test_how_limits_are_written(written, meant):
    assert list(parsed(written)) == meant


def test_latency_only_warns_unless_asked():
    assert parsed("5 ms", "latency") == (("warn", Bound(0, 5e-3)),)
    assert parsed({"fail": "5 ms"}, "latency") == (("fail", Bound(0, 5e-3)),)


@pytest.mark.parametrize("wrong", ["-2%", "2%%", "x%", {"relative": "2"}, {"min": 5, "max": 4}, "12 parsecs"])
def test_limits_that_make_no_sense(wrong):
    with pytest.raises(InputError, match=r"^file\.size: "):
        parsed(wrong)


@pytest.mark.parametrize(
    ("limit", "baseline", "value", "broken"),
    [
        (Bound(0, 100), None, 100, False),
        (Bound(0, 100), None, 101, True),
        (Bound(13, 17), None, 12, True),
        (Growth(0.02, None), 100, 102, False),
        (Growth(0.02, None), 100, 103, True),
        (Growth(0.02, None), 100, 50, False),
        (Growth(0.02, None), None, 10**9, False),
        (Growth(None, 0), 100, 101, True),
        (Growth(0.02, None), 0, 1, True),
        # Both: 2% of a small file is nothing, 64 kB of a large one neither.
        (Growth(0.02, 64), 100, 164, False),
        (Growth(0.02, 64), 100, 165, True),
        (Growth(0.02, 64), 10_000, 10_200, False),
        (Growth(0.02, 64), 10_000, 10_201, True),
    ],
)
def test_where_limits_break(limit, baseline, value, broken):
    growth = None if baseline is None else value - baseline
    assert limit.broken(value, growth, baseline) is broken


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (Bound(0, 12e6), "≤ 12 MB"),
        (Bound(13, 100), "≥ 13 B and ≤ 100 B"),
        (Growth(0.02, None), "+2%"),
        (Growth(None, 0), "+0 B"),
        (Growth(0.02, 64e3), "max(+2%, +64 kB)"),
    ],
)
def test_limits_for_people(limit, text):
    assert limit.text(Kind.BYTES) == text


def test_lists_of_what_is_allowed():
    assert Allowed(("Conv", "com.microsoft:*")).outside(["Conv", "Relu", "com.microsoft:Gelu"], None) == (
        "Relu",
    )
    assert Allowed(None).outside(["Conv", "Relu"], ["Conv"]) == ("Relu",)
    assert Allowed(None).outside(["Conv"], None) == ()
    assert Allowed(()).outside(["Conv"], None) == ("Conv",)
