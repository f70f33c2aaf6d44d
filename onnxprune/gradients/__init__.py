"""Gradients."""

from .backward import Gate, GradientGraph, backward
from .coverage import Coverage, differentiable, weights_of
from .losses import (
    Loss,
    Squashed,
    before_squashing,
    cross_entropy,
    custom,
    divergence,
    linear,
    squared_error,
    weighted,
)
from .reverse import Obstacle
from .runner import Runner, Stepped

__all__ = [
    "Coverage",
    "Gate",
    "GradientGraph",
    "Loss",
    "Obstacle",
    "Runner",
    "Squashed",
    "Stepped",
    "backward",
    "before_squashing",
    "cross_entropy",
    "custom",
    "differentiable",
    "divergence",
    "linear",
    "squared_error",
    "weighted",
    "weights_of",
]
