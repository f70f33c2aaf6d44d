"""Components of graphs, held to SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from onnxprune.reductions.channels.components import components


def of_scipy(count, a, b):
    links = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    return connected_components(links, directed=False)[1]


@given(st.data())
def test_as_scipy(data):
    count = data.draw(st.integers(1, 40))
    node = st.integers(0, count - 1)
    edges = data.draw(st.lists(st.tuples(node, node), max_size=60))
    a, b = (np.asarray([e[k] for e in edges], np.int64) for k in (0, 1))
    np.testing.assert_array_equal(components(count, a, b), of_scipy(count, a, b))


@pytest.mark.parametrize("seed", range(3))
def test_a_long_chain_in_any_order(seed):
    order = np.random.default_rng(seed).permutation(5000)
    assert not components(5000, order[1:], order[:-1]).any()
