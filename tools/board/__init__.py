"""Parts of `tools/scoreboard.py`: tasks (a model, samples, a metric), and the tools that are compared."""
