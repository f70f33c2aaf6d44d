"""Profiles: how long the layers of a network take on this machine, at their widths and at narrower ones.

In: a graph, the `Effect` of its channels, and a function that cuts a choice. Out: a `Profile`: times of
layers, a `cost.rate.Rate` for each (time by MACs and bytes), and the multiple of channels that kernels
prefer.

- `layers`: which nodes run together; `widths`: at which widths to measure; `stopwatch`: measures, or
  takes times from a `table` (a file, or the user's cache); `fit`: a line through times; `run`: all of it;
  `show`: a table;
- `bench`: whole models side by side.

A new cause of time is a term of `cost.rate.Rate`, fitted in `fit`.
"""

from __future__ import annotations

from .fit import Bound, Point
from .layers import TimedLayer, layers
from .run import LayerProfile, Profile, profile
from .show import profile_table
from .stopwatch import Measure, Stopwatch
from .table import MachineSetting, Table, cached, load, remember

__all__ = [
    "Bound",
    "LayerProfile",
    "MachineSetting",
    "Measure",
    "Point",
    "Profile",
    "Stopwatch",
    "Table",
    "TimedLayer",
    "cached",
    "layers",
    "load",
    "profile",
    "profile_table",
    "remember",
]
