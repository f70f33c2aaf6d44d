"""The quantities that a budget can limit: a row each.

A new one (energy, say) is a row here, and an option with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from ..contracts.budget import BYTES, SECONDS, Amount, Limit, Quantity, counted, limit
from ..contracts.timing import Timing
from ..execution.sessions import open_session
from ..graph import Network
from ..runtime import Feeds, Session, latency, ratio
from .macs import macs
from .memory import peak
from .sizes import feeds_for, sizes

TIMING_SECONDS = 2.0
"""Seconds for which each candidate is timed beside the original."""


class CostMeter:
    """Measures quantities of candidates, relative to the original where a limit is a share.

    Args:
        original: what shares refer to.
        timing: how to run it for `--latency`, and the shapes for all.
        seconds: how long to time each candidate.
    """

    def __init__(
        self, original: Network, timing: Timing | None = None, seconds: float = TIMING_SECONDS
    ) -> None:
        self.original = original
        self.timing = timing or Timing()
        self.seconds = seconds
        self._known: dict[str, float] = {}

    @cached_property
    def dims(self) -> Mapping[str, int]:
        """The sizes that networks are measured at."""
        return sizes(self.original.graph, self.timing.dims, self.timing.batch)

    @cached_property
    def session(self) -> Session:
        """Of the original."""
        return open_session(self.original.graph, self.timing.options)

    @cached_property
    def feeds(self) -> Feeds:
        """Inputs to time both on."""
        return feeds_for(self.session.inputs, self.dims, sample=self.timing.sample)

    def value(self, limit: Limit, network: Network) -> float:
        """What a network has, as its limit is given: a share of what the original has, or an amount."""
        row, network = ROWS[limit.quantity.option], network.unflattened
        if row.paired is not None:
            share, amount = row.paired(network, self)
            return amount if limit.share is None else share
        value = row.measure(network, self)
        if limit.share is None:
            return value
        if limit.quantity.option not in self._known:
            self._known[limit.quantity.option] = row.measure(self.original, self)
        return value / (self._known[limit.quantity.option] or 1.0)

    def excess(self, limit: Limit, network: Network) -> float:
        """By what share a limit is exceeded; negative within it."""
        return self.value(limit, network) / limit.of(1.0) - 1


Pair = tuple[float, float]
"""A share of the original's, and an amount."""


@dataclass(frozen=True)
class Row:
    """A quantity, and how it is found out.

    Attributes:
        quantity: what it is called, and its units.
        measure: what a network has of it, in base units.
        driver: the option of the quantity that an allocation brings down for it.
        paired: how it is measured together with the original, if a share is more than a ratio of two amounts.
    """

    quantity: Quantity
    measure: Callable[[Network, CostMeter], float]
    driver: str
    paired: Callable[[Network, CostMeter], Pair] | None = None


def _macs(network: Network, meter: CostMeter) -> float:
    sized = network.sized(meter.dims)
    return float(sum(macs(sized.graph, sized.facts).values()))


def _memory(network: Network, meter: CostMeter) -> float:
    sized = network.sized(meter.dims)
    return float(peak(sized.graph, sized.facts).total)


def _latency(network: Network, meter: CostMeter) -> Pair:
    """A share is measured in the same rounds as the original."""
    own = open_session(network.graph, meter.timing.options)
    timings = latency([own, meter.session], [meter.feeds] * 2, seconds=meter.seconds)
    return ratio(*timings.seconds).value, timings.medians[0]


_ROWS = (
    Row(Quantity("MACs", "--macs", counted("MAC", "MACs"), "300 MMACs"), _macs, "--macs"),
    Row(
        Quantity("parameters", "--params", counted("", "params"), "2M"),
        lambda network, _: float(network.graph.parameters()),
        "--params",
    ),
    Row(
        Quantity("file size", "--size", BYTES, "8MB"),
        lambda network, _: float(network.graph.size()),
        "--params",
    ),
    Row(
        Quantity("latency", "--latency", SECONDS, "5ms"),
        lambda network, meter: _latency(network, meter)[1],
        "--latency",
        _latency,
    ),
    Row(Quantity("peak memory", "--memory-peak", BYTES, "64MB"), _memory, "--macs"),
)

ROWS: Mapping[str, Row] = MappingProxyType({row.quantity.option: row for row in _ROWS})
"""By the option that limits it."""


def read(option: str, amount: Amount) -> Limit:
    """The limit that an option asks for.

    Raises:
        UsageError: it is neither a share nor an amount.
    """
    return limit(str(amount), ROWS[option].quantity)


def driver(limits: tuple[Limit, ...]) -> str:
    """The option of the quantity that an allocation brings down so that these limits hold."""
    drivers = [ROWS[x.quantity.option].driver for x in limits]
    if "--latency" in drivers:
        return "--latency"
    return "--params" if drivers and set(drivers) == {"--params"} else "--macs"
