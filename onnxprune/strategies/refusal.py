"""Refusals: what was asked for, the closest that is possible, and the groups that prevent more."""

from __future__ import annotations

from collections.abc import Sequence

from ..contracts.verdict import Size, Speed
from ..errors import Infeasible


def too_tight(option: str, limit: str, floor: str, groups: Sequence[str]) -> Infeasible:
    """A budget that can't be met.

    Args:
        option: as given: `--latency`.
        limit: what was asked.
        floor: the least that there is.
        groups: names of those that most of what is left lies in.
    """
    held = f" (most in {', '.join(repr(g) for g in groups)})" if groups else ""
    return Infeasible(
        f"{limit} can't be met: {floor} is the least, with every group as narrow as it may be{held}",
        where=option,
        hint="raise the limit, or lower --min-channels or --round-to",
    )


def drop_refused(limit: float, drop: float, share: float, cost: str = "MACs") -> Infeasible:
    """Even the smallest cut loses more than allowed.

    Args:
        limit: allowed drop.
        drop: what the smallest cut loses.
        share: of the cost that the smallest cut keeps.
        cost: in words.
    """
    return Infeasible(
        f"even the smallest cut, to {share:.3g} of the {cost}, loses {_points(drop)}: "
        f"{_points(drop - limit)} more than the {_points(limit)} allowed",
        where="--max-drop",
        hint="allow more, or repair with more samples",
    )


def no_gain(before: Size, after: Size, speed: Speed | None, tried: Sequence[str]) -> Infeasible | None:
    """A result that is neither smaller nor faster is refused; `None` if it is either.

    Noise counts for the result: it is refused only where it surely isn't faster.

    Args:
        before: the original.
        after: the result.
        speed: both side by side, if it was measured.
        tried: what was tried, in words.
    """
    smaller = after.bytes < before.bytes
    faster = speed is not None and speed.low < 1
    if smaller or faster:
        return None
    latency = f", latency is {speed.ratio:.3g} of the original's" if speed is not None else ""
    return Infeasible(
        f"the result is not smaller ({after.bytes} bytes against {before.bytes}) and not faster{latency}; "
        f"tried: {', '.join(tried)}",
        hint="ask for more pruning, or --force to have it anyway",
    )


def _points(share: float) -> str:
    return f"{100 * share:.3g} points"
