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
from .prepare import prepared
from .reverse import Obstacle
from .runner import Runner, Stepped
from .second import HessianGraph, hessian_product

__all__ = [
    "Coverage",
    "Gate",
    "GradientGraph",
    "HessianGraph",
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
    "hessian_product",
    "linear",
    "prepared",
    "squared_error",
    "weighted",
    "weights_of",
]
