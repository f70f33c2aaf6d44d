"""Mutation testing: what `tools/mutation.py` is made of.

`positions` draws mutants, `coverage` says which tests run which line, `forks` runs tests on a mutant, and
`results` keeps and tells what came of it. `equivalent.json` lists mutants that no test can see, with reasons.
"""
