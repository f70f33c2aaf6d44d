"""How a budget is met: from importance and costs to a `Choice` of units.

In: groups, importance scores, a `Cost`, limits, and a `Maker` that cuts and repairs a choice. Out: a
`Choice`. No strategy imports a cut, a repair or a proof.

- a ladder for each group, the loss at each width: `ladder`, `curves`; measured at the outputs:
  `sensitivity`;
- `allocation`: the choice for a share of one cost; `limits`: for all limits of a budget, with real
  candidates;
- `exchange`: width moved between groups; `steps` and `schedule`: iterative pruning; `max_drop`: a bound
  on quality; `pareto`: a curve; `bisection` serves `limits` and `max_drop`;
- without a cost: `uniform` (`--ratio`, `--select`, `--inbound`, `--sparsity`); `unread`; `widths`;
  `refusal`.

A new strategy is a file here, from the same inputs to a `Choice`, and a case in `pipeline.phase`.
"""
