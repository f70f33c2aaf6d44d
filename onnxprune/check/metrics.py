"""What can be limited: the one table that configuration, measurement and reports agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .quantity import Kind


@dataclass(frozen=True)
class Metric:
    """A number that describes a model; less is better.

    Attributes:
        key: its name in configuration files and reports.
        title: its name for people.
        kind: what it counts.
        costly: needs the weights, or runs the model: measured only on request.
        recorded: means the same on every machine, so that a baseline file may hold it.
    """

    key: str
    title: str
    kind: Kind
    costly: bool = False
    recorded: bool = True


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        m.key: m
        for m in (
            Metric("size", "size", Kind.BYTES),
            Metric("compressed-size", "compressed size", Kind.BYTES, costly=True),
            Metric("params", "parameters", Kind.COUNT),
            Metric("macs", "MACs", Kind.COUNT),
            Metric("nodes", "nodes", Kind.COUNT),
            Metric("peak-memory", "peak memory", Kind.BYTES),
            Metric("opset", "opset", Kind.COUNT),
            Metric("dead-channels", "dead channels", Kind.COUNT, costly=True),
            Metric("latency", "latency", Kind.SECONDS, costly=True, recorded=False),
        )
    }
)
"""The numbers, in the order of reports."""

SETS: Mapping[str, str] = MappingProxyType({"operators": "operators", "domains": "operator domains"})
"""What a model uses, limited by a list of what is allowed; key -> name for people."""
