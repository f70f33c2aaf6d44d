"""From what every unit is worth to which units stay, within a budget."""

from __future__ import annotations

from .cost import Cost, macs_model, parameters_model
from .descent import Descent
from .ladder import Ladder, corrected, drowned
from .latency import latency_model
from .uniform import by_ratio, by_rule

__all__ = [
    "Cost",
    "Descent",
    "Ladder",
    "by_ratio",
    "by_rule",
    "corrected",
    "drowned",
    "latency_model",
    "macs_model",
    "parameters_model",
]
