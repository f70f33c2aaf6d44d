"""Kinds of unit that can be removed: `channels` (and heads), `weights` (single ones, kernels).

In: a network. Out: a `Space` (see `contracts.reduction`): its groups of units, what blocks the rest, the
masked reference and the cut of any choice, where units are for costs, and what each layer loses.

Everything else is written once for all kinds: importance, sensitivity, allocation, steps, exchange,
proof, repair, plan, report. Mask and cut of one kind share no code, as the proof compares them.

A new kind (low rank, blocks) is a subpackage here whose class has `name` and `find`, an entry in
`pipeline.recipe` (`phases`, `replayed`), and a rewrite in `rewrites` first if its units are not in the
graph as it is.
"""
