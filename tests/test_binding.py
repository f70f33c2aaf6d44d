"""A binding runs on memory that NumPy sees."""

from __future__ import annotations

import numpy as np
import pytest
from nets import Net

from onnxprune.errors import InputError
from onnxprune.runtime import Binding, Session


@pytest.fixture
def session():
    """z = (x + w) * 2 and its half."""
    n = Net("binding")
    x, w = n.input("batch", 3), n.input(3)
    y = n.Add(x, w)
    model = n.model([n.Mul(y, np.float32(2)), y])
    return Session(model.SerializeToString())


def names(session):
    return [s.name for s in session.inputs], [s.name for s in session.outputs]


def test_inputs_are_read_where_they_are(session):
    (x, w), (z, y) = names(session)
    weight = np.zeros(3, np.float32)
    binding = Binding(session, {w: weight}, {})
    feeds = {x: np.ones((2, 3), np.float32)}
    np.testing.assert_array_equal(binding.run(feeds)[z], np.full((2, 3), 2))
    weight[...] = [1, 2, 3]
    np.testing.assert_array_equal(binding.run(feeds)[y], [[2, 3, 4]] * 2)


def test_outputs_are_written_where_they_are_wanted(session):
    (x, w), (z, y) = names(session)
    buffer = np.zeros((2, 3), np.float32)
    binding = Binding(session, {w: np.ones(3, np.float32)}, {y: buffer})
    free = binding.run({x: np.ones((2, 3), np.float32)})
    assert list(free) == [z]
    np.testing.assert_array_equal(buffer, np.full((2, 3), 2))
    free = binding.run({x: np.zeros((2, 3), np.float32)})
    np.testing.assert_array_equal(buffer, np.ones((2, 3)))
    np.testing.assert_array_equal(free[z], np.full((2, 3), 2))


def test_what_is_given_back_is_not_written_over(session):
    (x, w), (z, _) = names(session)
    binding = Binding(session, {w: np.zeros(3, np.float32)}, {})
    first = binding.run({x: np.ones((1, 3), np.float32)})[z]
    second = binding.run({x: np.zeros((4, 3), np.float32)})[z]
    np.testing.assert_array_equal(first, np.full((1, 3), 2))
    assert second.shape == (4, 3)


def test_what_can_not_be_shared_is_refused(session):
    (_, w), _ = names(session)
    with pytest.raises(ValueError, match="isn't contiguous"):
        Binding(session, {w: np.zeros((3, 2), np.float32)[:, 0]}, {})


def test_feeds_that_do_not_fit(session):
    (x, w), _ = names(session)
    binding = Binding(session, {w: np.zeros(3, np.float32)}, {})
    with pytest.raises(InputError, match="no array is given"):
        binding.run({})
    with pytest.raises(InputError, match="dtype float64"):
        binding.run({x: np.zeros((1, 3))})


def test_what_the_runtime_refuses_is_an_error_of_ours(session):
    (x, w), _ = names(session)
    binding = Binding(session, {w: np.zeros(3, np.float32)}, {})
    with pytest.raises(InputError, match="invalid dimensions"):
        binding.run({x: np.zeros((2, 5), np.float32)})
