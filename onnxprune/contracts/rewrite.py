"""What changes a graph, and nothing that it computes."""

from __future__ import annotations

from typing import Protocol

from ..graph import Network


class NotApplied(Exception):
    """A rewrite could not be made.

    Args:
        reason: why, in words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rewrite(Protocol):
    """Makes another network that computes the same, which is checked where it is applied."""

    @property
    def name(self) -> str:
        """In words, for notes: `cleaning`."""

    def __call__(self, network: Network) -> Network:
        """The rewritten network; the network itself where there is nothing to do.

        Raises:
            NotApplied: it can't be made, for a reason that the user should know.
        """
