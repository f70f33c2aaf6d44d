"""Channels that no kernel reads any more go; those that others read, or that would leave nothing, stay."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onnxprune.contracts.groups import Choice, Group, Lanes
from onnxprune.strategies.unread import without_unread

CHANNELS = Group("channels", "channels", "channel", 4)


def kernels(name: str, runs: int = 2, width: int = 4) -> Group:
    return Group(name, name, "kernel", runs * width, layers=(name,), runs=runs)


def after(*reads, group: Group = CHANNELS, units=(0, 1, 2, 3), also=(), unknown=()) -> list[int] | None:
    """Which channels stay where convolutions read some of them; `None`: nothing is said of them.

    Args:
        reads: for each convolution and each of its filters: the channels that it reads.
        group: the channels.
        units: which of them is where on the axis that convolutions read; -1: of another group.
        also: outputs of what else sums over them.
        unknown: outputs of convolutions that are not among the kernels.
    """
    names = [f"conv{k}" for k in range(len(reads))]
    aside = kernels("aside", 1, 3)
    own = [kernels(name, len(read), len(units)) for name, read in zip(names, reads, strict=True)]
    chosen = {
        one.id: np.concatenate([np.isin(np.arange(len(units)), filter_) for filter_ in read])
        for one, read in zip(own, reads, strict=True)
    }
    consumers = [SimpleNamespace(output=name) for name in ["aside", *names, *unknown]]
    space = SimpleNamespace(
        groups=[group],
        consumers=consumers,
        summing=lambda _: {*names, *also, *unknown},
        local=lambda _, consumer: np.full(3, -1) if consumer.output == "aside" else np.asarray(units),
    )
    found = without_unread(SimpleNamespace(groups=[aside, *own]), Choice(chosen), space)
    return np.flatnonzero(found.kept[group.id]).tolist() if group.id in found.kept else None


def test_what_no_filter_reads_goes():
    assert after([[0, 1], [1, 3]]) == [0, 1, 3]
    assert after([[2], [2]]) == [2]


def test_each_convolution_that_reads_them_counts():
    assert after([[0], [0]], [[3], [0]]) == [0, 3]


def test_what_all_or_none_of_them_read_stays_as_it_is():
    assert after([[0, 1], [2, 3]]) is None
    assert after([[], []]) is None, "a layer that reads nothing still has inputs"


def test_what_others_sum_over_stays():
    assert after([[0], [1]], also=["dense"]) is None
    assert after([[0], [1]], unknown=["other"]) is None


def test_channels_of_another_group_are_not_counted():
    assert after([[0, 3], [3]], units=(1, -1, 2, 0)) == [0, 1], "places 0 and 3 are channels 1 and 0"
    assert after([[1], [0]], units=(1, -1, 2, 0)) == [1], "place 1 is none of them"
    assert after([[1], [1]], units=(-1, -1, -1, -1), also=["other"]) is None


def test_a_channel_that_is_in_two_places_is_read_in_either():
    assert after([[0], [5]], units=(0, 1, 2, 0, 1, 3)) == [0, 3]


@pytest.mark.parametrize(
    ("read", "stay"), [([0, 2], [0, 2]), ([0, 1], None), ([0], [0, 2]), ([0, 1, 2], None)]
)
def test_rows_that_have_to_be_equally_wide_stay_so(read, stay):
    """Two rows of two: what is read stays, and where that makes them uneven, nothing goes."""
    rows = Group("rows", "rows", "channel", 4, lanes=(Lanes((np.array([0, 1]), np.array([2, 3])), (1, 1)),))
    assert after([read, read], group=rows) == stay
