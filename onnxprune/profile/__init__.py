"""What a network's layers take on this machine, at the widths they have and at those they could have."""

from __future__ import annotations

from .fit import Bound, Point
from .layers import Layer, layers
from .run import LayerProfile, Profile, profile
from .show import profile_table
from .stopwatch import Measure, Stopwatch
from .table import Setting, Table, cached, load, remember

__all__ = [
    "Bound",
    "Layer",
    "LayerProfile",
    "Measure",
    "Point",
    "Profile",
    "Setting",
    "Stopwatch",
    "Table",
    "cached",
    "layers",
    "load",
    "profile",
    "profile_table",
    "remember",
]
