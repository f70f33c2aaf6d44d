"""How good outputs are: losses against the original, drift, accuracy, metrics.

In: sessions or graphs, and batches of samples. Out: numbers.

- `loss`: one number for all outputs (`Loss`), and `Judge`, which compares many graphs with one original;
  everything that chooses between candidates uses it;
- `drift`: relative error of each output and agreement of the top class, for the verdict;
- `metrics`: what `--max-drop` limits, each as an `Evaluator`; `interval`: the exact interval of a drop.

A new metric is a class with `name` and `evaluate` in `metrics`, and its name in `pipeline.evaluators`. A
user's own is a function: `--metric module:function`.
"""
