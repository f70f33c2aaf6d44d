"""From what every unit is worth to which units stay, within a budget."""

from __future__ import annotations

from .budget import by_budget
from .cost import Cost, macs_model, parameters_model
from .ladder import Ladder
from .latency import latency_model
from .share import by_cost, least
from .uniform import by_ratio

__all__ = [
    "Cost",
    "Ladder",
    "by_budget",
    "by_cost",
    "by_ratio",
    "latency_model",
    "least",
    "macs_model",
    "parameters_model",
]
