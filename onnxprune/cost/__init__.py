"""What a network costs: MACs, parameters, bytes, memory, latency.

In: a `Network`; for predictions also the `Effect` of a space. Out: numbers in base units (counts, bytes,
seconds).

- `quantities`: a row for each quantity that a budget can limit, and `CostMeter`, which measures
  candidates;
- `macs`, `memory`, `sizes`: counts of a graph at given sizes of its inputs;
- `model`: a `Cost`, the cost as a function of the units that stay, without cutting a graph; `latency` and
  `rate`: the same for time, from measured layers.

A new budget (energy) is a row in `quantities._ROWS` and an option of the same name in `pipeline.options`;
the row names the cost that allocation drives down for it. A new such cost is a function that makes a
`Cost`.
"""
