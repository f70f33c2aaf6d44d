"""Budgets as people say them."""

from __future__ import annotations

import pytest

from onnxprune.contracts.budget import drop, limit, share
from onnxprune.cost.quantities import ROWS, driver, read
from onnxprune.errors import UsageError

MACS, PARAMS, SIZE, LATENCY, MEMORY = (
    ROWS[option].quantity for option in ("--macs", "--params", "--size", "--latency", "--memory-peak")
)


@pytest.mark.parametrize("text", ["0.5", "50%", " 50 %", ".5", "5e-1"])
def test_shares(text):
    assert limit(text, MACS).share == pytest.approx(0.5)
    assert share(text, option="--ratio") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "quantity", "amount"),
    [
        ("8MB", SIZE, 8e6),
        ("8 mb", SIZE, 8e6),
        ("500kB", SIZE, 5e5),
        ("2MiB", SIZE, 2 * 2**20),
        ("3KiB", SIZE, 3 * 2**10),
        ("1.5GiB", MEMORY, 1.5 * 2**30),
        ("2KB", SIZE, 2e3),
        ("7T", MACS, 7e12),
        ("2s", LATENCY, 2),
        ("100B", MEMORY, 100),
        ("1.5GB", MEMORY, 1.5e9),
        ("5ms", LATENCY, 5e-3),
        ("0.2s", LATENCY, 0.2),
        ("300us", LATENCY, 3e-4),
        ("300µs", LATENCY, 3e-4),
        ("300 MMACs", MACS, 3e8),
        ("300M", MACS, 3e8),
        ("1.2GMAC", MACS, 1.2e9),
        ("300mmacs", MACS, 3e8),
        ("2M", PARAMS, 2e6),
        ("2Mparams", PARAMS, 2e6),
    ],
)
def test_amounts(text, quantity, amount):
    found = limit(text, quantity)
    assert found.share is None
    assert found.of(1e12) == pytest.approx(amount)


def test_a_share_is_of_the_original():
    assert limit("25%", SIZE).of(8e6) == pytest.approx(2e6)


@pytest.mark.parametrize(
    ("text", "quantity", "said"),
    [
        ("8MB", SIZE, "8 MB"),
        ("5ms", LATENCY, "5 ms"),
        ("20B", SIZE, "20 B"),
        ("2MMACs", MACS, "2 M"),
        ("0.01k", PARAMS, "10 parameters"),
    ],
)
def test_it_reads_as_it_was_written(text, quantity, said):
    assert str(limit(text, quantity)) == said
    assert str(limit("0.5", quantity)) == f"0.5 of the {quantity.name}"


@pytest.mark.parametrize(
    ("text", "value"), [("1%", 0.01), ("1pt", 0.01), ("0.01", 0.01), ("0", 0), ("2.5 pts", 0.025)]
)
def test_drops(text, value):
    assert drop(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "quantity", "words"),
    [
        ("1.5", MACS, "not between 0 and 1"),
        ("300", MACS, "an amount has a unit"),
        ("0", SIZE, "not between 0 and 1"),
        ("100%", SIZE, "not between 0 and 1"),
        ("0MB", SIZE, "not above zero"),
        ("8 apples", SIZE, "'apples' is no unit of file size"),
        ("5ms", SIZE, "there are: B, kB"),
        ("-3ms", LATENCY, "not a number"),
        ("nan", LATENCY, "not a number"),
        ("", LATENCY, "not a number"),
        ("5 m s", LATENCY, "not a number"),
        ("1e999ms", LATENCY, "not a finite number"),
    ],
)
def test_what_is_no_budget(text, quantity, words):
    with pytest.raises(UsageError, match=words) as caught:
        limit(text, quantity)
    assert str(caught.value).startswith(f"{quantity.option}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["5ms", "1.0", "2", "150%", "-1%"])
def test_what_is_no_drop(text):
    with pytest.raises(UsageError):
        drop(text)


@pytest.mark.parametrize("text", ["8MB", "1", "0", "half"])
def test_what_is_no_share(text):
    with pytest.raises(UsageError):
        share(text, option="--ratio")


def test_a_limit_times_a_factor_is_of_the_same_kind():
    assert limit("0.5", MACS).times(0.5).share == pytest.approx(0.25)
    assert limit("8MB", SIZE).times(0.5).amount == pytest.approx(4e6)


@pytest.mark.parametrize(
    ("options", "brought_down"),
    [
        ((), "--macs"),
        (("--macs",), "--macs"),
        (("--params",), "--params"),
        (("--size",), "--params"),
        (("--size", "--params"), "--params"),
        (("--memory-peak",), "--macs"),
        (("--size", "--macs"), "--macs"),
        (("--latency",), "--latency"),
        (("--latency", "--macs", "--size"), "--latency"),
    ],
)
def test_what_an_allocation_brings_down_for_limits(options, brought_down):
    assert driver(tuple(read(option, 0.5) for option in options)) == brought_down
